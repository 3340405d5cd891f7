import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { freePort } from '../../common/net/free-port';

/** `restart` and `is-active` of systemctl over real processes: a folder with a command per unit, pid files, and a log of restarts. */
const standIn = `#!/usr/bin/env python3
import json, os, signal, subprocess, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
verb, unit = sys.argv[1], sys.argv[2]
pid_file = os.path.join(folder, unit + ".pid")
def pid():
    try:
        found = int(open(pid_file).read())
        return found if open(f"/proc/{found}/stat").read().rsplit(")", 1)[1].split()[0] != "Z" else None
    except (OSError, ValueError):
        return None
if verb == "is-active":
    print("active" if pid() else "failed")
    sys.exit(0 if pid() else 3)
open(os.path.join(folder, "restarts"), "a").write(unit + "\\n")
while (old := pid()):
    os.kill(old, signal.SIGKILL)
    time.sleep(0.02)
command = json.load(open(os.path.join(folder, unit + ".json")))
log = open(os.path.join(folder, unit + ".log"), "a")
started = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
open(pid_file, "w").write(str(started.pid))
`;

/** A TLS server on a port, with certificate and key from files as they are when it starts; ends at once for one that is not for it. */
const service = `
const tls = require('node:tls'), fs = require('node:fs'), { X509Certificate } = require('node:crypto');
const [port, cert, key] = process.argv.slice(2);
if (!new X509Certificate(fs.readFileSync(cert)).subjectAltName.includes('127.0.0.1')) process.exit(1);
tls.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (socket) => socket.end()).listen(Number(port), '127.0.0.1');
`;

export interface ScriptResult {
  readonly code: number;
  readonly output: string;
}

/** Units with real processes behind them, and the script that restarts them. */
export class ServiceManager implements AsyncDisposable {
  readonly #units = new Set<string>();

  constructor(readonly folder: string) {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'systemctl'), standIn, { mode: 0o755 });
    fs.writeFileSync(path.join(folder, 'service.js'), service);
  }

  /** Makes a unit and starts it; returns its port. */
  async add(unit: string, certificateFile: string, keyFile: string): Promise<number> {
    const port = await freePort();
    const command = [process.execPath, path.join(this.folder, 'service.js'), String(port), certificateFile, keyFile];
    this.setCommand(unit, command);
    await this.start(unit, port);
    return port;
  }

  /** Starts a unit, and waits until its port shows a certificate. */
  async start(unit: string, port: number): Promise<void> {
    this.#units.add(unit);
    await this.#systemctl('restart', unit);
    const end = Date.now() + 240_000;
    while ((await this.shown(port)) === undefined) if (Date.now() > end) throw new Error(`${unit} is not up`);
  }

  setCommand(unit: string, command: readonly string[]): void {
    fs.writeFileSync(path.join(this.folder, `${unit}.json`), JSON.stringify(command));
  }

  /** Units that were restarted since the last call, in order. */
  restarts(): string[] {
    const file = path.join(this.folder, 'restarts');
    const found = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n').filter(Boolean) : [];
    fs.rmSync(file, { force: true });
    return found;
  }

  /** SHA-256 of the certificate that a port shows; undefined when none does. */
  shown(port: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.once('error', () => setTimeout(() => resolve(undefined), 50));
    });
  }

  /** Runs restart-after-rotation with this manager's systemctl. */
  run(map: string, ...options: string[]): Promise<ScriptResult> {
    const script = path.resolve(__dirname, '..', '..', '..', 'scripts', 'certificate', 'restart-after-rotation');
    const words = ['--map', map, '--state', path.join(this.folder, 'state'), '--settle', '0.05', '--timeout', '120', ...options];
    return new Promise((resolve) => {
      const env = { ...process.env, PATH: `${this.folder}:${process.env['PATH']}` };
      execFile(script, words, { env }, (error, stdout, stderr) => {
        resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, output: stdout + stderr });
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const unit of this.#units) {
      const pid = Number(fs.readFileSync(path.join(this.folder, `${unit}.pid`), 'utf8'));
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
  }

  #systemctl(...words: string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      execFile(path.join(this.folder, 'systemctl'), words, (error) => (error ? reject(error) : resolve()));
    });
  }
}
