"""What tests of the gateway to language models share."""
