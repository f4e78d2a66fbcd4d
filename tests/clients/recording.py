"""Asks for a recording: python3 recording.py https://HOST:PORT CA.pem AK SK-FILE

Signs (auth-v2), asks for the link of a recording, and plays a file into recording.wav. Needs nothing but Python 3.
"""

import datetime, hashlib, hmac, json, pathlib, ssl, sys, urllib.parse, urllib.request

url, ca, ak, sk_file = sys.argv[1:]
secret = pathlib.Path(sk_file).read_text().strip()
trust = ssl.create_default_context(cafile=ca)


def authorization(method, path, headers, body):
    """The signature covers exactly these bytes: sign the body that is sent, and the Host that is sent."""
    def encode(text):
        return urllib.parse.quote(text, safe="-._~")

    def hex_hmac(key, text):
        return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()

    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = ";".join(sorted(headers))
    lines = "\n".join(sorted(f"{name}:{encode(value)}" for name, value in headers.items()))
    prefix = f"auth-v2/{ak}/{now}/{names}"
    # A query would be a line of its own after the path; there is none here, and then no line either.
    return prefix + "/" + hex_hmac(hex_hmac(secret, prefix), f"{method}\n{path}\n{names}\n{lines}\n{encode(body)}")


def ask(interface, message):
    path = "/CCFS/resource/ccfs/" + interface
    body = json.dumps(message)
    headers = {"host": urllib.parse.urlsplit(url).netloc, "content-type": "application/json;charset=UTF-8"}
    headers["authorization"] = authorization("POST", path, dict(headers), body)
    request = urllib.request.Request(url + path, body.encode(), headers)
    with urllib.request.urlopen(request, timeout=10, context=trust) as response:
        answer = json.load(response)
    if answer["resultCode"] != "0":
        sys.exit(f"{answer['resultCode']}: {answer['resultDesc']}")
    return answer["resultData"]


window = {"beginTime": "2021-11-24 16:25:03", "endTime": "2021-11-24 17:25:11", "version": "2.0"}
link = ask("getRecordFileUrlFromObs", {"callId": "1637742300-27", **window})
print("link", link["url"].split("?")[0])  # whoever has the rest can fetch the recording

file = {"request": {"version": "2.0"}, "msgBody": {"fileName": "Y:/record/0/20211124/1637742300.wav"}}
token = ask("requestPlayVoice", file)["token"]
play = f"{url}/CCFS/resource/ccfs/playVoice?" + urllib.parse.urlencode({"t": 1, "version": "2.0", "st": token})
with urllib.request.urlopen(play, timeout=10, context=trust) as response:
    size = pathlib.Path("recording.wav").write_bytes(response.read())
print("played", size, "bytes")
