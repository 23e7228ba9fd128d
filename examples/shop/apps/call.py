"""One call, from where this runs: `python3 call.py GET orders:8080/orders`. Prints the status and what was answered."""

import sys
from http.client import HTTPConnection, HTTPException


def main(method, place):
    address, _, path = place.partition("/")
    try:
        connection = HTTPConnection(address, timeout=10)
        connection.request(method, f"/{path}")
        response = connection.getresponse()
        print(response.status, response.read().decode().strip())
    except (OSError, HTTPException) as error:
        print("no answer:", error)


main(*sys.argv[1:])
