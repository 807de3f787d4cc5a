"""``python -m kexecdbg``: the shell command."""

import sys

from kexecdbg.ui.cli import main

sys.exit(main())
