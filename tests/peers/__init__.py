"""What the end-to-end tests run against each other: real mitmdump processes, servers and clients, over loopback."""
