"""What taps: runs inside mitmproxy's event loop, copies facts into records and writes them to the child."""
