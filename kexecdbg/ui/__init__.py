"""Everything that is shown to a person or written as JSON, and the shell command."""
