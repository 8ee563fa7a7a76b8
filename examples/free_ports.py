"""Prints TCP ports on 127.0.0.1 that nobody uses, as many as the argument says."""

import socket
import sys

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
