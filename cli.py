"""Run the command line from a checkout: `python cli.py`."""

from zkllm.cli import main

if __name__ == "__main__":
    main()
