//! The release candidate's interfaces, from the WIT of Spin's Rust SDK 2.2.0.

wasmtime::component::bindgen!({
    inline: "
        package spotter:candidate;

        world imports {
            import wasi:io/poll@0.2.0-rc-2023-10-18;
            import wasi:io/streams@0.2.0-rc-2023-10-18;
            import wasi:http/types@0.2.0-rc-2023-10-18;
            import wasi:http/outgoing-handler@0.2.0-rc-2023-10-18;
        }

        package wasi:io@0.2.0-rc-2023-10-18 {
            interface poll {
                resource pollable;
                poll-list: func(in: list<borrow<pollable>>) -> list<u32>;
                poll-one: func(in: borrow<pollable>);
            }

            interface streams {
                use poll.{pollable};
                variant stream-error { last-operation-failed(error), closed }
                resource error { to-debug-string: func() -> string; }
                resource input-stream {
                    read: func(len: u64) -> result<list<u8>, stream-error>;
                    blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
                    skip: func(len: u64) -> result<u64, stream-error>;
                    blocking-skip: func(len: u64) -> result<u64, stream-error>;
                    subscribe: func() -> pollable;
                }
                resource output-stream {
                    check-write: func() -> result<u64, stream-error>;
                    write: func(contents: list<u8>) -> result<_, stream-error>;
                    blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    flush: func() -> result<_, stream-error>;
                    blocking-flush: func() -> result<_, stream-error>;
                    subscribe: func() -> pollable;
                    write-zeroes: func(len: u64) -> result<_, stream-error>;
                    blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
                    splice: func(src: input-stream, len: u64) -> result<u64, stream-error>;
                    blocking-splice: func(src: input-stream, len: u64) -> result<u64, stream-error>;
                    forward: func(src: input-stream) -> result<u64, stream-error>;
                }
            }
        }

        package wasi:http@0.2.0-rc-2023-10-18 {
            interface types {
                use wasi:io/streams@0.2.0-rc-2023-10-18.{input-stream, output-stream};
                use wasi:io/poll@0.2.0-rc-2023-10-18.{pollable};
                variant method {
                    get, head, post, put, delete, connect, options, trace, patch, other(string),
                }
                variant scheme { HTTP, HTTPS, other(string) }
                variant error {
                    invalid-url(string),
                    timeout-error(string),
                    protocol-error(string),
                    unexpected-error(string),
                }
                type status-code = u16;
                record request-options {
                    connect-timeout-ms: option<u32>,
                    first-byte-timeout-ms: option<u32>,
                    between-bytes-timeout-ms: option<u32>,
                }
                resource fields {
                    constructor(entries: list<tuple<string, list<u8>>>);
                    get: func(name: string) -> list<list<u8>>;
                    set: func(name: string, value: list<list<u8>>);
                    delete: func(name: string);
                    append: func(name: string, value: list<u8>);
                    entries: func() -> list<tuple<string, list<u8>>>;
                    clone: func() -> fields;
                }
                type headers = fields;
                type trailers = fields;
                resource incoming-request {
                    method: func() -> method;
                    path-with-query: func() -> option<string>;
                    scheme: func() -> option<scheme>;
                    authority: func() -> option<string>;
                    headers: func() -> headers;
                    consume: func() -> result<incoming-body>;
                }
                resource outgoing-request {
                    constructor(
                        method: method,
                        path-with-query: option<string>,
                        scheme: option<scheme>,
                        authority: option<string>,
                        headers: borrow<headers>
                    );
                    write: func() -> result<outgoing-body>;
                }
                resource response-outparam {
                    set: static func(param: response-outparam, response: result<outgoing-response, error>);
                }
                resource incoming-response {
                    status: func() -> status-code;
                    headers: func() -> headers;
                    consume: func() -> result<incoming-body>;
                }
                resource incoming-body {
                    %stream: func() -> result<input-stream>;
                    finish: static func(this: incoming-body) -> future-trailers;
                }
                resource future-trailers {
                    subscribe: func() -> pollable;
                    get: func() -> option<result<trailers, error>>;
                }
                resource outgoing-response {
                    constructor(status-code: status-code, headers: borrow<headers>);
                    write: func() -> result<outgoing-body>;
                }
                resource outgoing-body {
                    write: func() -> result<output-stream>;
                    finish: static func(this: outgoing-body, trailers: option<trailers>);
                }
                resource future-incoming-response {
                    get: func() -> option<result<result<incoming-response, error>>>;
                    subscribe: func() -> pollable;
                }
            }

            interface outgoing-handler {
                use types.{outgoing-request, request-options, future-incoming-response, error};
                handle: func(request: outgoing-request, options: option<request-options>)
                    -> result<future-incoming-response, error>;
            }
        }
    ",
    imports: { default: async | trappable },
    with: {
        "wasi:io/poll.pollable": wasmtime_wasi::p2::DynPollable,
        "wasi:io/streams.error": wasmtime_wasi::p2::IoError,
        "wasi:io/streams.input-stream": wasmtime_wasi::p2::DynInputStream,
        "wasi:io/streams.output-stream": wasmtime_wasi::p2::DynOutputStream,
        "wasi:http/types.fields": wasmtime_wasi_http::FieldMap,
        "wasi:http/types.incoming-request": wasmtime_wasi_http::p2::types::HostIncomingRequest,
        "wasi:http/types.outgoing-request": wasmtime_wasi_http::p2::types::HostOutgoingRequest,
        "wasi:http/types.response-outparam": wasmtime_wasi_http::p2::types::HostResponseOutparam,
        "wasi:http/types.incoming-response": wasmtime_wasi_http::p2::types::HostIncomingResponse,
        "wasi:http/types.incoming-body": wasmtime_wasi_http::p2::body::HostIncomingBody,
        "wasi:http/types.future-trailers": wasmtime_wasi_http::p2::body::HostFutureTrailers,
        "wasi:http/types.outgoing-response": wasmtime_wasi_http::p2::types::HostOutgoingResponse,
        "wasi:http/types.outgoing-body": wasmtime_wasi_http::p2::body::HostOutgoingBody,
        "wasi:http/types.future-incoming-response": wasmtime_wasi_http::p2::types::HostFutureIncomingResponse,
    },
});
