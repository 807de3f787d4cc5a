"""Debug sessions driven from outside: GDB with our commands loaded, through GDB/MI."""
