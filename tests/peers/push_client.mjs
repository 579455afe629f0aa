// A client that asks for /page through a proxy and prints what it gets, as JSON.
// Arguments: the proxy's port, the server's, the file with the authority's certificate, whether to allow push.
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import tls from "node:tls";

const [proxyPort, port, ca, allowsPush] = process.argv.slice(2);
const got = { pushes: [] };

function read(stream, into) {
  into.body = "";
  stream.setEncoding("utf8");
  stream.on("data", (piece) => (into.body += piece));
  stream.on("trailers", (trailers) => (into.trailers = { ...trailers }));
  return new Promise((resolve) => stream.on("close", resolve));
}

http
  .request({ port: proxyPort, host: "127.0.0.1", method: "CONNECT", path: `localhost:${port}` })
  .on("connect", (_, socket) => {
    const secured = tls.connect({ socket, servername: "localhost", ca: fs.readFileSync(ca), ALPNProtocols: ["h2"] });
    const session = http2.connect(`https://localhost:${port}`, {
      createConnection: () => secured,
      settings: { enablePush: allowsPush === "true" },
    });
    const reading = [];
    session.on("stream", (stream, headers) => {
      const push = { id: stream.id, path: headers[":path"], accept: headers.accept };
      got.pushes.push(push);
      stream.on("push", (response) => (push.status = response[":status"]));
      reading.push(read(stream, push));
    });
    const page = session.request({ ":path": "/page" });
    page.on("response", (response) => (got.allowed = response["x-push-allowed"]));
    read(page, got).then(async () => {
      await Promise.all(reading);
      console.log(JSON.stringify(got));
      session.close();
    });
  })
  .end();
