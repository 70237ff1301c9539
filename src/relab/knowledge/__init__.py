"""What is known of causes and their repairs: runbooks, and the incidents of the past."""
