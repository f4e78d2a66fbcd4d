// Asks for a recording: node recording.js https://HOST:PORT CA.pem AK SK-FILE
//
// Signs (auth-v2), asks for the link of a recording, and plays a file into recording.wav. Needs nothing but Node.js 18.

const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');

const [url, caFile, ak, skFile] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const secret = fs.readFileSync(skFile, 'utf8').trim();
const TYPE = 'application/json;charset=UTF-8';

const hexHmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest('hex');
const encode = text => encodeURIComponent(text).replace(/[!'()*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase());

/** The signature covers exactly these bytes: sign the body that is sent, and the Host that is sent. */
function authorization(path, body) {
  const names = 'content-type;host';
  const now = new Date().toISOString().replace(/\.\d+/, '');
  const prefix = `auth-v2/${ak}/${now}/${names}`;
  // A query would be a line of its own after the path; there is none here, and then no line either.
  const text = ['POST', path, names, `content-type:${encode(TYPE)}`, `host:${encode(new URL(url).host)}`, encode(body)].join('\n');
  return `${prefix}/${hexHmac(hexHmac(secret, prefix), text)}`;
}

/** Sends a request and returns the body of its response. */
function send(target, options, body) {
  return new Promise((resolve, reject) => {
    const request = https.request(url + target, { ca, timeout: 10_000, ...options }, response => {
      const parts = [];
      response.on('data', part => parts.push(part)).on('error', reject).on('end', () => {
        const whole = Buffer.concat(parts);
        response.statusCode === 200 ? resolve(whole) : reject(new Error(`${response.statusCode}: ${whole}`));
      });
    });
    request.on('timeout', () => request.destroy(new Error('timeout'))).on('error', reject).end(body);
  });
}

async function ask(service, message) {
  const path = '/CCFS/resource/ccfs/' + service;
  const body = JSON.stringify(message);
  const headers = { Authorization: authorization(path, body), 'Content-Type': TYPE, 'Content-Length': Buffer.byteLength(body) };
  const answer = JSON.parse(await send(path, { method: 'POST', headers }, body));
  if (answer.resultCode !== '0') throw new Error(`${answer.resultCode}: ${answer.resultDesc}`);
  return answer.resultData;
}

async function main() {
  const window = { beginTime: '2021-11-24 16:25:03', endTime: '2021-11-24 17:25:11', version: '2.0' };
  const link = await ask('getRecordFileUrlFromObs', { callId: '1637742300-27', ...window });
  console.log('link', link.url.split('?')[0]); // whoever has the rest can fetch the recording

  const file = { request: { version: '2.0' }, msgBody: { fileName: 'Y:/record/0/20211124/1637742300.wav' } };
  const { token } = await ask('requestPlayVoice', file);
  const voice = await send('/CCFS/resource/ccfs/playVoice?' + new URLSearchParams({ t: 1, version: '2.0', st: token }));
  fs.writeFileSync('recording.wav', voice);
  console.log('played', voice.length, 'bytes');
}

main().catch(error => {
  console.error(error.message);
  process.exitCode = 1;
});
