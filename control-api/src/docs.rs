//! The API description as one page: no scripts, nothing from elsewhere.

use serde_json::Value;
use std::fmt::Write;

use crate::codes::Code;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1c1e21;background:#fff}h2{margin-top:2.5rem;border-bottom:1px solid #ccc}code{font-family:ui-monospace,monospace;\
background:#f2f3f5;padding:.1em .3em;border-radius:3px}details{border:1px solid #ddd;border-radius:6px;margin:.6rem 0;\
padding:.4rem .8rem}summary{cursor:pointer}table{border-collapse:collapse;width:100%;margin:.5rem 0}\
td,th{border:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}.m{display:inline-block;\
min-width:4.5em;font-weight:700}@media(prefers-color-scheme:dark){body{color:#e4e6eb;background:#18191a}\
code{background:#2a2c2e}details,td,th,h2{border-color:#3a3b3c}a{color:#6ab0ff}}";

/// Renders an OpenAPI document.
pub fn render(document: &Value) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>crest API</title><style>{STYLE}</style></head><body>\
         <h1>crest API {}</h1><p>{}</p><p>For programs: <a href=\"/openapi.json\">openapi.json</a>. Send \
         <code>Authorization: Bearer &lt;API key&gt;</code> with everything under <code>/v1</code>.</p>",
        text(&document["info"]["version"]),
        prose(&document["info"]["description"]),
    );
    for tag in items(&document["tags"]) {
        let _ = write!(out, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), prose(&tag["description"]));
        for (path, methods) in fields(&document["paths"]) {
            for (method, operation) in fields(methods) {
                if items(&operation["tags"]).any(|name| *name == tag["name"]) {
                    render_operation(&mut out, path, method, operation);
                }
            }
        }
    }
    out.push_str("<h2>Bodies</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        render_schema(&mut out, name, schema);
    }
    out.push_str("<h2>Problems</h2><table><tr><th>code</th><th>status</th><th>meaning</th></tr>");
    for code in Code::ALL {
        let (name, status) = (code.name(), code.status().as_u16());
        let _ = write!(
            out,
            "<tr id=\"problem-{name}\"><td><code>{name}</code></td><td>{status}</td><td>{}</td></tr>",
            code.title()
        );
    }
    out.push_str("</table></body></html>");
    out
}

fn render_operation(out: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        out,
        "<details id=\"{}\"><summary><span class=\"m\">{}</span> <code>{}</code> {}</summary><p>{}</p>",
        text(&operation["operationId"]),
        escape(&method.to_uppercase()),
        escape(path),
        text(&operation["summary"]),
        prose(&operation["description"]),
    );
    if items(&operation["parameters"]).next().is_some() {
        out.push_str("<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>");
        for parameter in items(&operation["parameters"]) {
            let _ = write!(
                out,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                prose(&parameter["description"]),
            );
        }
        out.push_str("</table>");
    }
    for (_, media) in fields(&operation["requestBody"]["content"]) {
        let _ = write!(out, "<p>Body: {}</p>", kind(&media["schema"]));
    }
    out.push_str("<table><tr><th>answer</th><th>body</th><th></th></tr>");
    for (status, response) in fields(&operation["responses"]) {
        let body = fields(&response["content"]).map(|(_, media)| kind(&media["schema"])).collect::<Vec<_>>().join(", ");
        let description = prose(&response["description"]);
        let _ = write!(out, "<tr><td>{}</td><td>{body}</td><td>{description}</td></tr>", escape(status));
    }
    out.push_str("</table></details>");
}

fn render_schema(out: &mut String, name: &str, schema: &Value) {
    let _ = write!(
        out,
        "<details id=\"schema-{0}\"><summary><code>{0}</code></summary><p>{1}</p><table>\
         <tr><th>field</th><th>type</th><th></th></tr>",
        escape(name),
        prose(&schema["description"]),
    );
    for (field, property) in fields(&schema["properties"]) {
        let needed = items(&schema["required"]).any(|required| required == field);
        let _ = write!(
            out,
            "<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td></tr>",
            escape(field),
            if needed { "" } else { " (optional)" },
            kind(property),
            prose(&property["description"]),
        );
    }
    out.push_str("</table></details>");
}

/// A schema in a few words, with a link to the one it names.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    }
    if items(&schema["enum"]).next().is_some() {
        return items(&schema["enum"]).map(|v| format!("<code>{}</code>", text(v))).collect::<Vec<_>>().join(" | ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if items(&schema[key]).next().is_some() {
            return items(&schema[key]).map(kind).collect::<Vec<_>>().join(" | ");
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" | "),
        other => text(other),
    };
    if types.contains("array") { format!("{types} of {}", kind(&schema["items"])) } else { types }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A string of the document, safe to stand in the page.
fn text(value: &Value) -> String {
    value.as_str().map(escape).unwrap_or_default()
}

/// A description, with what stands between backticks set as code.
fn prose(value: &Value) -> String {
    let parts = text(value);
    let mark = |(index, part): (usize, &str)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.into() };
    parts.split('`').enumerate().map(mark).collect()
}

fn escape(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
