;; A component that imports every function of the release candidate.
(component
  (import "wasi:io/poll@0.2.0-rc-2023-10-18" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "poll-list" (func (param "in" (list (borrow $pollable))) (result (list u32))))
    (export "poll-one" (func (param "in" (borrow $pollable))))
  ))
  (alias export $poll "pollable" (type $pollable))

  (import "wasi:io/streams@0.2.0-rc-2023-10-18" (instance $streams
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "error" (type $error (sub resource)))
    (type $stream-error-type (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-type)))
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (type $bytes (result (list u8) (error $stream-error)))
    (type $count (result u64 (error $stream-error)))
    (type $done (result (error $stream-error)))
    (export "[method]error.to-debug-string" (func (param "self" (borrow $error)) (result string)))
    (export "[method]input-stream.read" (func (param "self" (borrow $input)) (param "len" u64) (result $bytes)))
    (export "[method]input-stream.blocking-read" (func (param "self" (borrow $input)) (param "len" u64) (result $bytes)))
    (export "[method]input-stream.skip" (func (param "self" (borrow $input)) (param "len" u64) (result $count)))
    (export "[method]input-stream.blocking-skip" (func (param "self" (borrow $input)) (param "len" u64) (result $count)))
    (export "[method]input-stream.subscribe" (func (param "self" (borrow $input)) (result (own $pollable))))
    (export "[method]output-stream.check-write" (func (param "self" (borrow $output)) (result $count)))
    (export "[method]output-stream.write"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result $done)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result $done)))
    (export "[method]output-stream.flush" (func (param "self" (borrow $output)) (result $done)))
    (export "[method]output-stream.blocking-flush" (func (param "self" (borrow $output)) (result $done)))
    (export "[method]output-stream.subscribe" (func (param "self" (borrow $output)) (result (own $pollable))))
    (export "[method]output-stream.write-zeroes" (func (param "self" (borrow $output)) (param "len" u64) (result $done)))
    (export "[method]output-stream.blocking-write-zeroes-and-flush"
      (func (param "self" (borrow $output)) (param "len" u64) (result $done)))
    (export "[method]output-stream.splice"
      (func (param "self" (borrow $output)) (param "src" (own $input)) (param "len" u64) (result $count)))
    (export "[method]output-stream.blocking-splice"
      (func (param "self" (borrow $output)) (param "src" (own $input)) (param "len" u64) (result $count)))
    (export "[method]output-stream.forward"
      (func (param "self" (borrow $output)) (param "src" (own $input)) (result $count)))
  ))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))

  (import "wasi:http/types@0.2.0-rc-2023-10-18" (instance $types
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (alias outer 1 $input (type $outer-input))
    (export "input-stream" (type $input (eq $outer-input)))
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (type $method-type (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
      (case "options") (case "trace") (case "patch") (case "other" string)))
    (export "method" (type $method (eq $method-type)))
    (type $scheme-type (variant (case "HTTP") (case "HTTPS") (case "other" string)))
    (export "scheme" (type $scheme (eq $scheme-type)))
    (type $error-type (variant (case "invalid-url" string) (case "timeout-error" string)
      (case "protocol-error" string) (case "unexpected-error" string)))
    (export "error" (type $error (eq $error-type)))
    (type $request-options-type (record (field "connect-timeout-ms" (option u32))
      (field "first-byte-timeout-ms" (option u32)) (field "between-bytes-timeout-ms" (option u32))))
    (export "request-options" (type $request-options (eq $request-options-type)))
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $incoming-request (sub resource)))
    (export "outgoing-request" (type $outgoing-request (sub resource)))
    (export "response-outparam" (type $outparam (sub resource)))
    (export "incoming-response" (type $incoming-response (sub resource)))
    (export "incoming-body" (type $incoming-body (sub resource)))
    (export "future-trailers" (type $trailers (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "future-incoming-response" (type $future (sub resource)))
    (type $entries (list (tuple string (list u8))))
    (export "[constructor]fields" (func (param "entries" $entries) (result (own $fields))))
    (export "[method]fields.get"
      (func (param "self" (borrow $fields)) (param "name" string) (result (list (list u8)))))
    (export "[method]fields.set"
      (func (param "self" (borrow $fields)) (param "name" string) (param "value" (list (list u8)))))
    (export "[method]fields.delete" (func (param "self" (borrow $fields)) (param "name" string)))
    (export "[method]fields.append"
      (func (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8))))
    (export "[method]fields.entries" (func (param "self" (borrow $fields)) (result $entries)))
    (export "[method]fields.clone" (func (param "self" (borrow $fields)) (result (own $fields))))
    (export "[method]incoming-request.method" (func (param "self" (borrow $incoming-request)) (result $method)))
    (export "[method]incoming-request.path-with-query"
      (func (param "self" (borrow $incoming-request)) (result (option string))))
    (export "[method]incoming-request.scheme"
      (func (param "self" (borrow $incoming-request)) (result (option $scheme))))
    (export "[method]incoming-request.authority"
      (func (param "self" (borrow $incoming-request)) (result (option string))))
    (export "[method]incoming-request.headers" (func (param "self" (borrow $incoming-request)) (result (own $fields))))
    (export "[method]incoming-request.consume"
      (func (param "self" (borrow $incoming-request)) (result (result (own $incoming-body)))))
    (export "[constructor]outgoing-request"
      (func (param "method" $method) (param "path-with-query" (option string)) (param "scheme" (option $scheme))
        (param "authority" (option string)) (param "headers" (borrow $fields)) (result (own $outgoing-request))))
    (export "[method]outgoing-request.write"
      (func (param "self" (borrow $outgoing-request)) (result (result (own $outgoing-body)))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $outparam)) (param "response" (result (own $outgoing-response) (error $error)))))
    (export "[method]incoming-response.status" (func (param "self" (borrow $incoming-response)) (result u16)))
    (export "[method]incoming-response.headers"
      (func (param "self" (borrow $incoming-response)) (result (own $fields))))
    (export "[method]incoming-response.consume"
      (func (param "self" (borrow $incoming-response)) (result (result (own $incoming-body)))))
    (export "[method]incoming-body.stream"
      (func (param "self" (borrow $incoming-body)) (result (result (own $input)))))
    (export "[static]incoming-body.finish" (func (param "this" (own $incoming-body)) (result (own $trailers))))
    (export "[method]future-trailers.subscribe" (func (param "self" (borrow $trailers)) (result (own $pollable))))
    (export "[method]future-trailers.get"
      (func (param "self" (borrow $trailers)) (result (option (result (own $fields) (error $error))))))
    (export "[constructor]outgoing-response"
      (func (param "status-code" u16) (param "headers" (borrow $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.write"
      (func (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write"
      (func (param "self" (borrow $outgoing-body)) (result (result (own $output)))))
    (export "[static]outgoing-body.finish"
      (func (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields)))))
    (export "[method]future-incoming-response.get"
      (func (param "self" (borrow $future))
        (result (option (result (result (own $incoming-response) (error $error)))))))
    (export "[method]future-incoming-response.subscribe"
      (func (param "self" (borrow $future)) (result (own $pollable))))
  ))
  (alias export $types "outgoing-request" (type $outgoing-request))
  (alias export $types "request-options" (type $request-options))
  (alias export $types "future-incoming-response" (type $future))
  (alias export $types "error" (type $error))

  (import "wasi:http/outgoing-handler@0.2.0-rc-2023-10-18" (instance
    (alias outer 1 $outgoing-request (type $outer-request))
    (export "outgoing-request" (type $request (eq $outer-request)))
    (alias outer 1 $request-options (type $outer-options))
    (export "request-options" (type $options (eq $outer-options)))
    (alias outer 1 $future (type $outer-future))
    (export "future-incoming-response" (type $response (eq $outer-future)))
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "handle"
      (func (param "request" (own $request)) (param "options" (option $options))
        (result (result (own $response) (error $error)))))
  ))
)
