"""The command line: idempotent verbs over one studio. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from matinee.cli import facts, insight, policies, serving  # noqa: F401  # their verbs add themselves to the application
from matinee.cli.app import app
from matinee.exceptions import MatineeError


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `matinee` command; errors of the user end with a sentence and exit status 1."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        app(argv)
    except MatineeError as error:
        print(f"matinee: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("matinee: stopped; what was acknowledged is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except Exception as error:  # noqa: BLE001  # a traceback never reaches a user; it is kept for whoever mends it
        kept = Path.cwd() / f"matinee-error-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        try:
            kept.write_text(traceback.format_exc())
            where = f"the details are in {kept.name}"
        except OSError:
            where = "and the details could not be written"
        print(f"matinee: an error that should not happen ({type(error).__name__}: {error}); {where}", file=sys.stderr)
        return 70
    return 0
