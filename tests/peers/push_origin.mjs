// A server that pushes /pushed.css along with /page. Arguments: the file with key and chain. Prints its port.
import fs from "node:fs";
import http2 from "node:http2";

const pem = fs.readFileSync(process.argv[2]);
const server = http2.createSecureServer({ key: pem, cert: pem });

server.on("stream", (stream, headers) => {
  if (headers[":path"] !== "/page") {
    stream.respond({ ":status": 404 }, { endStream: true });
    return;
  }
  if (stream.pushAllowed) {
    stream.pushStream({ ":path": "/pushed.css", accept: "text/css" }, (error, pushed) => {
      pushed.respond({ ":status": 200, "content-type": "text/css" }, { waitForTrailers: true });
      pushed.on("wantTrailers", () => pushed.sendTrailers({ "x-sum": "1" }));
      pushed.end("body {}");
    });
  }
  stream.respond({ ":status": 200, "x-push-allowed": String(stream.pushAllowed) });
  stream.end("<!doctype html>");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
