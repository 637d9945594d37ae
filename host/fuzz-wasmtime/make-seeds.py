#!/usr/bin/env python3
"""Writes the inputs that the fuzz targets of this crate start from: valid ones, and ones that are nearly so."""

import json
import pathlib

SEEDS = pathlib.Path(__file__).parent / "seeds"
# 4,097 bytes on their way at once.
WINDOW = b"\x80"


def write(target, name, content):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def http1():
    get = b"GET /static HTTP/1.1\r\nhost: a\r\n\r\n"
    for name, sent in {
        "get": get,
        "pipelined": get + b"HEAD /read/1/x?y=%20 HTTP/1.1\r\nHost: a:80\r\n\r\n" + get,
        "length": b"POST /read/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabcde" + get,
        "chunked": b"POST /read/1/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n",
        "both": b"POST /read/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "continue": b"PUT /read/1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
        "absolute": b"GET http://b/static HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "old": b"GET /static HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "forwarded": b"GET /read/1 HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.0.0.1, [::1]:5\r\n"
        b"x-forwarded-proto: https\r\nx-forwarded-host: b\r\norigin: https://c\r\n\r\n",
        "preflight": b"OPTIONS /read/1 HTTP/1.1\r\nhost: a\r\norigin: https://c\r\n"
        b"access-control-request-method: PUT\r\naccess-control-request-headers: x\r\n\r\n",
        "upgrade": b"GET /static HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "connect": b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
        "two_hosts": b"GET /static HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "folded": b"GET /static HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
        "late": b"GET /static HTTP/1.1\r\nhost:",
        "own": b"GET /.well-known/spin/info HTTP/1.1\r\nhost: a\r\n\r\n",
    }.items():
        write("http1", name, WINDOW + sent)


def frame(kind, flags, stream, payload=b""):
    return bytes([kind, flags, stream, len(payload)]) + payload


def literal(name, value):
    """A header that is not indexed (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def http2():
    data, headers, priority, reset, settings, _, ping, goaway, window, more = range(10)
    end_stream, end_headers = 1, 4
    # :method GET, :scheme http, :path and :authority.
    path = lambda text: b"\x04" + bytes([len(text)]) + text
    get = b"\x82\x86" + path(b"/static") + b"\x01\x01a"
    post = b"\x83\x86" + path(b"/read/1") + b"\x01\x01a"
    start = frame(settings, 0, 0)
    for name, sent in {
        "get": start + frame(headers, end_stream | end_headers, 1, get),
        "post": start + frame(headers, end_headers, 1, post) + frame(data, 0, 1, b"abc") + frame(data, 1, 1),
        "trailers": start + frame(headers, end_headers, 1, post) + frame(data, 0, 1, b"abc")
        + frame(headers, end_stream | end_headers, 1, literal(b"t", b"1")),
        "continuation": start + frame(headers, end_stream, 1, get[:4]) + frame(more, end_headers, 1, get[4:]),
        "padded": start + frame(headers, 1 | 4 | 8 | 32, 1, b"\x02" + b"\x00\x00\x00\x00\x10" + get + b"\x00\x00"),
        "reset": start + frame(headers, end_headers, 1, post) + frame(reset, 0, 1, b"\x00\x00\x00\x08")
        + frame(headers, 5, 3, get),
        "settings": frame(settings, 0, 0, b"\x00\x04\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00") + frame(settings, 1, 0)
        + frame(headers, 5, 1, get) + frame(window, 0, 1, b"\x00\x00\xff\xff"),
        "ping": start + frame(ping, 0, 0, b"12345678") + frame(ping, 1, 0, b"12345678"),
        "goaway": start + frame(headers, 5, 1, get) + frame(goaway, 0, 0, b"\x00" * 8),
        "overflow": start + frame(window, 0, 0, b"\x7f\xff\xff\xff"),
        "no_path": start + frame(headers, 5, 1, b"\x82\x86\x01\x01a"),
        "large": start + frame(headers, end_headers, 1, post) + frame(data | 0x80, 0, 1, b"x" * 200) + frame(data, 1, 1),
        "large_header": start + frame(headers, end_stream, 1, get)
        + frame(more | 0x80, 0, 1, literal(b"name", b"v" * 80)) + frame(more, end_headers, 1, literal(b"e", b"1")),
        "many": start + b"".join(frame(headers, 5, stream, get) for stream in range(1, 40, 2)),
        "reserved": start + frame(priority, 0, 3, b"\x00\x00\x00\x01\x05") + frame(11, 9, 1, b"unknown"),
        "connection_header": start + frame(headers, 5, 1, get + literal(b"connection", b"close")),
    }.items():
        write("http2", name, WINDOW + sent)


OCI = "application/vnd.oci.image"
LAYER = "application/vnd.wasm.content.layer.v1+wasm"


def oci_manifest():
    descriptor = lambda kind, size: {"mediaType": kind, "digest": "sha256:" + "0" * 64, "size": size}
    image = lambda *sizes: {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": descriptor("application/vnd.wasm.config.v0+json", 2),
        "layers": [descriptor(LAYER, size) for size in sizes],
        "annotations": {"a": "b"},
    }
    entry = lambda architecture, system: descriptor(f"{OCI}.manifest.v1+json", 9) | {
        "platform": {"architecture": architecture, "os": system, "variant": "v8", "os.features": ["a"]}
    }
    index = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [entry("amd64", "linux"), entry("wasm", "wasip2"), descriptor("x", 1)],
    }
    for name, content in {
        "image": image(1, 2),
        "negative": image(-9000000000000),
        "huge": image(2**63 - 1, 2**63 - 1),
        "none": image(),
        "index": index,
        "no_platform": index | {"manifests": [descriptor("x", 1)]},
        "docker": {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [entry("arm64", "linux")],
        },
    }.items():
        write("oci_manifest", name, json.dumps(content))


def oci_layers():
    def locked(files=(), component="web", **other):
        return json.dumps(
            {
                "spin_lock_version": 1,
                "metadata": {"name": "a", "trigger": {"type": "http"}},
                "variables": {"v": {"default": "x"}, "s": {"secret": True}},
                "triggers": [
                    {"id": "t", "trigger_type": "http", "trigger_config": {"component": component, "route": "/..."}}
                ],
                "components": [
                    {
                        "id": component,
                        "metadata": {"allowed_outbound_hosts": ["https://a.b"], "key_value_stores": ["default"]},
                        "source": {"content_type": "application/wasm", "digest": "sha256:1"},
                        "env": {"A": "b"},
                        "config": {"word": "{{ v }}"},
                        "files": list(files),
                    }
                    | other
                ],
            }
        )

    join = "\n---\n".join
    inline = {"inline": "aGk=", "path": "/hi.txt"}
    link = {"digest": "2", "path": "a/b.txt"}
    model = {"spotter_models": {"m": [{"digest": "sha256:2", "path": "model.onnx"}]}, "spotter_page": "{{ v }}"}
    for name, content in {
        "one": join([locked([inline, link]), "\0asm\1\0\0\0", "text"]),
        "model": join([locked(metadata=model), "wasm", "network"]),
        "component": join(["", "\0asm\x0d\0\1\0"]),
        "two_components": join(["", "a", "b"]),
        "missing": join([locked([link]), "wasm"]),
        "out": join([locked([{"digest": "2", "path": "../../x"}]), "wasm", "text"]),
        "name": join([locked(component="../web"), "wasm"]),
        "folder_and_file": join([locked([link, {"inline": "", "path": "a"}]), "wasm", "text"]),
        "twice": join([locked([link, link, {"inline": "aGk=", "path": "a/b.txt"}]), "wasm", "text"]),
    }.items():
        write("oci_layers", name, content)


def bundle():
    def spec(args, env=(), mounts=(), cgroup="/kubepods/pod1/c", **linux):
        return {
            "ociVersion": "1.1.0",
            "process": {
                "user": {"uid": 65532, "gid": 65532},
                "args": list(args),
                "env": ["PATH=/bin", *env],
                "cwd": "/etc",
                "oomScoreAdj": 900,
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}, *mounts],
            "annotations": {"io.kubernetes.cri.container-type": "container"},
            "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}]} | linux,
        }

    bind = lambda at, source: {"destination": at, "type": "bind", "source": source, "options": ["rbind", "ro"]}
    cgroups = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    shared = [{"type": "pid", "path": "/proc/7/ns/pid"}]
    for name, content in {
        "function": spec(["/spin.toml"]),
        "component": spec(["/a.wasm"]),
        "flags": spec(["spin.toml", "--listen=[::]:80", "--instances", "2", "--variable", "word=x"]),
        "environment": spec(["/spin.toml"], ["SPIN_PROFILE=fast", "SPOTTER_GRACE=1s", "SPIN_VARIABLE_WORD=x"]),
        "configuration": spec(["/spin.toml", "--runtime-config-file", "host.toml"]),
        "volume": spec(["/spin.toml", "--runtime-config-file=/v/host.toml"], mounts=[bind("/v", "/nowhere")]),
        "hidden": spec(["/spin.toml"], mounts=[bind("/", "/nowhere")]),
        "temporary": spec(["/spin.toml"], mounts=[{"destination": "/tmp", "type": "tmpfs"}]),
        "out": spec(["/out.toml"]),
        "program": spec(["/bin/sh", "-c", "true"]),
        "systemd": spec(["/spin.toml"], cgroup="kubepods-pod1.slice:cri-containerd:c"),
        "shared": spec(["/spin.toml"], mounts=[cgroups], namespaces=shared),
        "bad_flag": spec(["/spin.toml", "--instances", "none", "--unknown"]),
        "empty": {"ociVersion": "1.1.0"},
    }.items():
        write("bundle", name, json.dumps(content))


for make in (http1, http2, oci_manifest, oci_layers, bundle):
    make()
