// Parses recorded requests with the JavaScript SDK of CloudEvents. It runs in the folder that has it.
//
// Reads a JSON line per request from stdin, {"headers", "body"}; prints per line a JSON array of the events in it, each an
// object of its attributes and "data", or "rejected: why". The SDK leaves the percent-encoding of headers to its users.
import readline from "node:readline";
import { CloudEvent, HTTP, ValidationError } from "cloudevents";

const lines = readline.createInterface({ input: process.stdin });

function decoded(headers) {
    const isAttribute = (name) => name.startsWith("ce-");
    return Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [name, isAttribute(name) ? decodeURIComponent(value) : value]),
    );
}

lines.on("line", (line) => {
    const { headers, body } = JSON.parse(line);
    try {
        const events = [HTTP.toEvent({ headers: decoded(headers), body })].flat();
        // Strictly: the SDK is lenient with what comes in.
        console.log(JSON.stringify(events.map((event) => ({ ...new CloudEvent({ ...event }, true) }))));
    } catch (e) {
        if (!(e instanceof ValidationError || e instanceof SyntaxError)) throw e;
        console.log(`rejected: ${e.message.replaceAll("\n", " ")}`);
    }
});
