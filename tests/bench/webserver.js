// The web server as Node has it: what peers.py measures beside `meshdemo webserver`. Content, path, host name, status.
const http = require("node:http");
const os = require("node:os");

const [port, content] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  const status = request.url === "/failsometimes" && Math.random() < 1 / 3 ? 500 : 200;
  const text = `${content} requested from ${request.url} on ${os.hostname()} with code ${status}`;
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
});

server.listen(Number(port), "127.0.0.1");
