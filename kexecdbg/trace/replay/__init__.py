"""A recorded run as GDB sees a machine: stepped and run forwards and backwards."""
