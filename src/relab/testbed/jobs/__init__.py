"""Jobs that run beside the target on its machine: reports over what the shop has sold."""
