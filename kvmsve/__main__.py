"""python -m kvmsve"""

import sys

from .cli import main

sys.exit(main())
