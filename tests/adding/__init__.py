"""What CONTRIBUTING.md says of additions, tried: toys that come in through the public seams."""
