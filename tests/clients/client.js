// Sends the requests of a file with Node.js: node client.js VERSION CA.pem REQUESTS.tsv
// HTTP/1.1 with fetch (the process needs NODE_EXTRA_CA_CERTS; fetch knows no Expect), HTTP/2 with http2.
// Columns: name, method, URL, "expect" or "-", body file or "-", headers as "Name: value".
// Prints one line a request: name, status, bytes of the body, HTTP version; or name and the error.

const fs = require("node:fs");
const http2 = require("node:http2");

const [version, ca, requests] = process.argv.slice(2);

function parse(line) {
  const [name, method, url, expect, body, ...headers] = line.split("\t");
  return {
    name, method, url: new URL(url), expects: expect === "expect",
    body: body === "-" ? null : fs.readFileSync(body),
    headers: Object.fromEntries(headers.map((header) => header.split(": ", 2))),
  };
}

async function overHttp1(request) {
  const { method, body, headers } = request;
  const signal = AbortSignal.timeout(10_000);
  const response = await fetch(request.url, { method, body, headers, signal });
  const bytes = await response.arrayBuffer();
  return [response.status, bytes.byteLength, "1.1"];
}

function overHttp2(session, request) {
  return new Promise((resolve, reject) => {
    const headers = { ...request.headers, ":method": request.method, ":path": request.url.pathname };
    if (request.body) headers["content-length"] = request.body.length;
    if (request.expects) headers.expect = "100-continue";
    const stream = session.request(headers, { endStream: !request.body });
    let status, bytes = 0;
    stream.setTimeout(10_000, () => stream.destroy(new Error("timeout")));
    stream.on("response", (head) => { status = head[":status"]; });
    stream.on("data", (chunk) => { bytes += chunk.length; });
    stream.on("error", reject);
    stream.on("end", () => resolve([status, bytes, "2"]));
    if (!request.body) return;
    if (request.expects) stream.on("continue", () => stream.end(request.body));
    else stream.end(request.body);
  });
}

async function main() {
  const list = fs.readFileSync(requests, "utf8").trim().split("\n").map(parse);
  // Node.js counts bodies that it could not send for the memory of the session, also those of closed streams;
  // beyond the default of 10 MB it refuses its own requests (ENHANCE_YOUR_CALM).
  const settings = { ca: fs.readFileSync(ca), maxSessionMemory: 1000 };
  const session = version === "2" ? http2.connect(list[0].url.origin, settings) : null;
  session?.on("error", () => {});
  for (const request of list) {
    try {
      const result = await (session ? overHttp2(session, request) : overHttp1(request));
      console.log([request.name, ...result].join("\t"));
    } catch (error) {
      console.log(`${request.name}\t${error} ${error.cause ?? ""}`);
    }
  }
  session?.close();
}

main();
