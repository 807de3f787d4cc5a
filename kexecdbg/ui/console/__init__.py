"""The console: a prompt over a session. What it knows and says is apart from prompt_toolkit, which shows it."""
