//! Ten thousand hostile requests cause no 5xx except 503, and no growth in memory.

use std::io::Write;
use std::time::Duration;

use spotter_tests::server::Server;
use spotter_tests::{client, pictures, raw};

/// Pseudo-random numbers (xorshift), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A picture with a few bytes changed, or truncated.
fn damaged(random: &mut Random, picture: &[u8]) -> Vec<u8> {
    let mut bytes = picture.to_vec();
    for _ in 0..1 + random.below(8) {
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
    }
    if random.below(3) == 0 {
        bytes.truncate(random.below(picture.len()));
    }
    bytes
}

/// Small pictures, which decode quickly. The network takes as long as for large ones.
fn small_pictures() -> Vec<Vec<u8>> {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let cat = image::DynamicImage::ImageRgb8(pictures::cat()).thumbnail(64, 64);
    [Png, Jpeg, WebP, Gif, Bmp].iter().map(|format| pictures::encode(&cat, *format)).collect()
}

/// Pictures that claim to be far larger than their bytes: one can be decompressed, two only have the header.
fn bombs(small: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 30_000, 30_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&vec![0; 30_000 / 8 * 30_000]).expect("a picture");
    writer.finish().expect("an end");
    let mut jpeg = small[1].clone();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut gif = small[3].clone();
    gif[6..10].fill(0xff);
    vec![png, jpeg, gif]
}

/// Sends one hostile request. Returns the status of the reply, if the client waited for one.
fn attack(
    server: &Server,
    random: &mut Random,
    [small, bombs]: [&[Vec<u8>]; 2],
    index: usize,
) -> Option<u16> {
    let url = server.url("/detect");
    let picture = &small[random.below(small.len())];
    let post = |content_type: &str, body: &[u8]| {
        client::send("POST", &url, &[("content-type", content_type)], body)
    };
    let reply = match random.below(9) {
        // Mostly requests that are refused without running the network, which takes a tenth of a second.
        0 => client::post_picture(&url, &damaged(random, &picture[..picture.len() / 2])),
        1 => client::post_picture(&url, &random.bytes(index % 5000)),
        2 => post("multipart/form-data; boundary=x", &random.bytes(300)),
        3 => post("application/json", b"{\"image\": [[["),
        4 => post("text/html", picture),
        5 => client::post_picture(&format!("{url}?min_confidence={}", random.next()), picture),
        6 => {
            abort(server, picture);
            return None;
        }
        7 => client::post_picture(&url, &bombs[random.below(bombs.len())]),
        _ if index % 40 == 7 => client::post_picture(&url, &damaged(random, picture)),
        _ => client::get(&server.url(&format!("/{}", random.next()))),
    };
    Some(reply.status)
}

/// An upload whose client disconnects in the middle.
fn abort(server: &Server, picture: &[u8]) {
    let mut stream = raw::connect(server.address());
    let head = "POST /detect HTTP/1.1\r\nhost: test\r\ncontent-type: image/png\r\ncontent-length: 100000\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(picture);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads memory from /proc")]
fn ten_thousand_hostile_requests_leave_no_trace() {
    const REQUESTS: usize = 10_000;
    let server = Server::start(&["--queue-timeout", "30s", "--queue-length", "1000"]);
    let small = small_pictures();
    let bombs = bombs(&small);
    let good = || assert_eq!(client::post_picture(&server.url("/detect"), &small[1]).status, 200);
    let attacks = |seed: u64, requests: usize| {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for index in 0..requests {
            let status = attack(&server, &mut random, [&small, &bombs], index);
            assert!(status.is_none_or(|s| (200..500).contains(&s) || s == 503), "{status:?}");
        }
    };
    let storm = |first_seed: u64, requests: usize| {
        std::thread::scope(|scope| {
            for seed in first_seed..first_seed + 4 {
                let attacks = &attacks;
                scope.spawn(move || attacks(seed, requests / 4));
            }
        });
        (0..20).for_each(|_| good());
    };
    // Instances that wait for the next request hold some megabytes for a second or two.
    let memory_at_rest = || {
        let samples = (0..20).map(|_| {
            std::thread::sleep(Duration::from_millis(150));
            server.anonymous()
        });
        samples.min().expect("a sample")
    };
    // The baseline is the memory of a server that has seen every kind of request often.
    storm(1, REQUESTS / 2);
    let before = memory_at_rest();
    storm(11, REQUESTS);
    let after = memory_at_rest();
    println!("anonymous memory {} kB before, {} kB after", before >> 10, after >> 10);
    // A leak of 1 KiB for each request is larger.
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
}
