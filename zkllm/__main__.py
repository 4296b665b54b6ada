"""`python -m zkllm`."""

from zkllm.cli import main

if __name__ == "__main__":
    main()
