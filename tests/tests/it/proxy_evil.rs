//! Origins that answer what no server should: the one who asked gets an error, and nobody
//! else gets a byte of it.

mod cases;
mod http2;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;

use crate::smuggling::{self, wire};
use cases::{Case, POISON, Wanted};

/// Answers `/evil/<number>` with that case's bytes, all else with its path.
fn origin(cases: Arc<Vec<Case>>) -> anyhow::Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::AcqRel);
            let cases = Arc::clone(&cases);
            std::thread::spawn(move || drop(serve(stream, &cases)));
        }
    });
    Ok((address, connections))
}

fn serve(mut stream: TcpStream, cases: &[Case]) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        let end = loop {
            let end = input.windows(4).position(|four: &[u8]| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            let mut chunk = [0; 4_096];
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                count => input.extend_from_slice(&chunk[..count]),
            }
        };
        let head: Vec<u8> = input.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let evil = path
            .strip_prefix("/evil/")
            .and_then(|number| cases.get(number.parse::<usize>().ok()?));
        match evil {
            Some(case) => {
                stream.write_all(&case.answer)?;
                if case.closes {
                    return Ok(());
                }
            }
            None => {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                    path.len()
                );
                stream.write_all(answer.as_bytes())?;
            }
        }
    }
}

fn request(path: &str) -> String {
    format!("GET /-/o{path} HTTP/1.1\r\nHost: gate.test\r\n\r\n")
}

#[test]
fn what_an_origin_may_not_say_reaches_nobody() -> anyhow::Result<()> {
    let cases = Arc::new(cases::all());
    let (address, connections) = origin(Arc::clone(&cases))?;
    let gateway = smuggling::gateway(address)?;
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        // So that there is a connection at rest that the case meets.
        let others_get = |path: String| {
            let request =
                format!("GET /-/o{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = testkit::http::exchange(gateway.main_addr(), request.as_bytes())?;
            ensure!(
                answer.text() == path,
                "{}: others got {answer:?}",
                case.name
            );
            Ok(())
        };
        others_get(format!("/warm/{number}"))?;
        let before = connections.load(Ordering::Acquire);

        // A second request waits behind the first on the client's connection.
        let both = request(&format!("/evil/{number}")) + &request(&format!("/mine/{number}"));
        let mut end = request(&format!("/end/{number}"));
        end = end.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let got = wire::talk(
            gateway.main_addr(),
            both.as_bytes(),
            usize::MAX,
            end.as_bytes(),
        )?;
        let others: Vec<_> = got
            .answers
            .iter()
            .skip(1)
            .map(|(_, body)| body.as_str())
            .collect();
        let theirs = [format!("/mine/{number}"), format!("/end/{number}")];
        let first = got.answers.first();
        let is_right = match case.wanted {
            Wanted::Status(status) => {
                first.is_some_and(|(got, _)| *got == status) && others == theirs
            }
            Wanted::Body(body) => first.is_some_and(|(_, got)| got == body) && others == theirs,
            Wanted::Cut => {
                let said = String::from_utf8_lossy(&got.rest);
                got.answers.is_empty()
                    && got.is_closed
                    && said.contains("hello")
                    && !said.ends_with("0\r\n\r\n")
            }
        };
        let text = format!("{:?} {:?}", got.answers, String::from_utf8_lossy(&got.rest));
        if !is_right || text.contains("poison") {
            wrong.push(format!(
                "{}: wanted {:?}, got {text:.600}",
                case.name, case.wanted
            ));
        }
        others_get(format!("/others/{number}"))?;
        let opened = connections.load(Ordering::Acquire) - before;
        if opened == 0 && case.name != "interim answer with a length" {
            wrong.push(format!("{}: its connection was used again", case.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "of {} cases:\n{}",
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn answer_that_comes_while_the_connection_rests_is_nobodys() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let gateway = smuggling::gateway(listener.local_addr()?)?;
    let mut client = testkit::http::connect(gateway.main_addr())?;
    client.write_all(request("/first").as_bytes())?;
    let (mut rests, _) = listener.accept()?;
    let mut head = [0; 4_096];
    ensure!(rests.read(&mut head)? > 0, "no request came");
    rests.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")?;
    let first = testkit::http::read_response(&mut client, &mut Vec::new())?;
    assert_eq!(first.text(), "first");

    rests.write_all(POISON.as_bytes())?;
    std::thread::spawn(move || {
        let none = Vec::new();
        for stream in listener.incoming().flatten() {
            drop(serve(stream, &none));
        }
    });
    client.write_all(request("/second").as_bytes())?;
    let second = testkit::http::read_response(&mut client, &mut Vec::new())?;
    assert_eq!(second.text(), "/second");
    Ok(())
}
