"""Sends the requests of a file with httpx: client.py VERSION CA.pem REQUESTS.tsv

Columns: name, method, URL, "expect" or "-" (httpx knows no Expect), body file or "-", headers as "Name: value".
Prints one line a request: name, status, bytes of the body, HTTP version; or name and the exception.
"""

import pathlib
import sys

import httpx

version, ca, requests = sys.argv[1:]
with httpx.Client(http1=version != "2", http2=version == "2", verify=ca, timeout=10, trust_env=False) as client:
    for line in pathlib.Path(requests).read_text().splitlines():
        name, method, url, _expect, body, *headers = line.split("\t")
        content = None if body == "-" else pathlib.Path(body).read_bytes()
        fields = dict(header.split(": ", 1) for header in headers)
        try:
            response = client.request(method, url, content=content, headers=fields)
            spoken = response.http_version.removeprefix("HTTP/")
            print(name, response.status_code, len(response.content), spoken, sep="\t")
        except httpx.HTTPError as error:
            print(name, repr(error), sep="\t")
