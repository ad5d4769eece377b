//! A browser without a screen, told what to do over a pair of pipes (the DevTools protocol, a JSON message up to each 0).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// It reads from descriptor 3 and writes to 4; the shell makes them from ours, and becomes it.
const PIPES: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
];

/// A browser with one tab.
pub(super) struct Chromium {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: u64,
    session: Option<String>,
    /// What it told without being asked, since [`Chromium::open`].
    told: Vec<Value>,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Pixels of the page.
    pub(super) width: u32,
    /// `light` or `dark`.
    pub(super) scheme: &'static str,
}

impl Chromium {
    /// Starts it, with a profile of its own.
    pub(super) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("sh")
            .args(["-c", PIPES, "chromium"])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (calls, session, told) = (0, None, vec![]);
        let mut this = Self { process, input, output, calls, session, told, _profile: profile };
        let tab = this.call("Target.createTarget", json!({ "url": "about:blank" }));
        let to = json!({ "targetId": tab["targetId"], "flatten": true });
        this.session =
            this.call("Target.attachToTarget", to)["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            this.call(&format!("{domain}.enable"), json!({}));
        }
        this
    }

    /// Runs `script` before the page's own, whichever is opened.
    pub(super) fn before_each(&mut self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Opens a page.
    pub(super) fn open(&mut self, url: &str, look: Look) {
        let is_phone = look.width < 500;
        let screen = json!({
            "width": look.width, "height": 800, "mobile": is_phone,
            "deviceScaleFactor": if is_phone { 2 } else { 1 },
        });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let scheme = json!({ "name": "prefers-color-scheme", "value": look.scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [scheme] }));
        // Two addresses that differ behind the # only are one page.
        self.call("Page.navigate", json!({ "url": "about:blank" }));
        self.told.clear();
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// What an expression is, once its promise is kept.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let what = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", what);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(super) fn wait_for(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != json!(true) {
            assert!(begun.elapsed() < PATIENCE, "never: {expression}; {:?}", self.complaints());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key.
    pub(super) fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key }));
        }
    }

    /// Moves the pointer.
    pub(super) fn point(&mut self, x: f64, y: f64) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// A picture of the whole page: PNG.
    pub(super) fn picture(&mut self) -> Vec<u8> {
        let size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]";
        let size = self.value(size);
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let what = json!({ "captureBeyondViewport": true, "clip": clip });
        let answer = self.call("Page.captureScreenshot", what);
        BASE64_STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// Errors, warnings and whatever else was written to the console.
    pub(super) fn complaints(&self) -> Vec<&Value> {
        let of = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        self.told.iter().filter(|told| of.iter().any(|method| told["method"] == **method)).collect()
    }

    /// The addresses that were asked.
    pub(super) fn requests(&self) -> Vec<&str> {
        let sent = self.told.iter().filter(|told| told["method"] == "Network.requestWillBeSent");
        sent.filter_map(|told| told["params"]["request"]["url"].as_str()).collect()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.output.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "Chromium has ended, at {method}");
            let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.told.push(answer);
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It has ended already where that fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
