import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';
import { eventually, startProgram } from '../harness/child';
import type { Child } from '../harness/child';

const build = path.resolve(__dirname, '..', '..', '..', 'test', 'shares', 'guest', 'build.py');
const program = '/opt/tidemark/dist/host-adapter/cli/tidemark.js';

interface Parts {
  readonly kernel: string;
  readonly initrd: string;
  readonly programs: string;
}

interface Ran {
  readonly code: number;
  readonly output: string;
}

/** Where the machine below is for the guest; see qemu's user-mode network. */
export const hostAddress = '10.0.2.2';

/**
 * A machine with the kernel's own NFS and SMB clients and Debian's mount helpers, which this kernel may not have: a guest under qemu, with its CPU emulated. Its
 * root lies in memory; our programs lie on a disk.
 */
export class GatewayMachine {
  private constructor(
    private readonly folder: string,
    private readonly qemu: Child,
    private readonly shellPort: number,
    /** Ports of this machine that lead to the mover's in the guest. */
    readonly controlPort: number,
    readonly dataPort: number,
  ) {}

  /** What is missing of it is built: half a minute the first time, a few seconds when our programs changed. */
  static parts(): Parts {
    return JSON.parse(execFileSync('python3', [build], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })) as Parts;
  }

  /** Ten seconds on a quiet machine. */
  static async boot(folder: string, { kernel, initrd, programs }: Parts): Promise<GatewayMachine> {
    fs.mkdirSync(folder, { recursive: true });
    const ports = [await freePort(), await freePort(), await freePort()] as const;
    const inside = [7, 8447, 8445];
    const forwards = ports.map((port, index) => `hostfwd=tcp:127.0.0.1:${port}-:${inside[index]}`).join(',');
    const console = path.join(folder, 'console.txt');
    const qemu = startProgram(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35', '-cpu', 'max', '-smp', '2', '-m', '1024'],
        ...['-accel', 'tcg,thread=multi,tb-size=256', '-kernel', kernel, '-initrd', initrd],
        ...['-append', 'console=ttyS0 quiet panic=5 net.ifnames=0 random.trust_cpu=on', '-serial', `file:${console}`],
        ...['-netdev', `user,id=net0,${forwards}`, '-device', 'virtio-net-pci,netdev=net0', '-device', 'virtio-rng-pci'],
        ...['-drive', `file=${programs},format=raw,if=virtio,readonly=on`],
      ],
      path.join(folder, 'qemu.log'),
    );
    const machine = new GatewayMachine(folder, qemu, ...ports);
    await eventually('the guest', 600_000, () => fs.existsSync(console) && fs.readFileSync(console, 'utf8').includes('machine: up'), 200);
    // It is said before anybody listens.
    await eventually('the shell of the guest', 240_000, async () => (await machine.run('true')).code === 0, 200);
    return machine;
  }

  /** Runs a script of sh as root; both streams as one. */
  run(script: string, timeoutMs = 240_000): Promise<Ran> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.shellPort, '127.0.0.1');
      let output = '';
      socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs} ms to: ${script}; so far: ${output}`)));
      socket.on('data', (chunk: Buffer) => (output += chunk.toString()));
      socket.once('error', reject);
      socket.once('close', () => {
        const code = /\n=(\d+)\n$/.exec(output);
        if (code) resolve({ code: Number(code[1]), output: output.slice(0, code.index) });
        else reject(new Error(`the guest's shell broke off: ${output}`));
      });
      socket.write(`exec 2>&1\nexport PATH=/usr/sbin:/usr/bin:/opt/tidemark/bin\n${script}\nprintf '\\n=%s\\n' "$?"\nexit\n`);
    });
  }

  /** The same for what must succeed. */
  async must(script: string, timeoutMs?: number): Promise<string> {
    const { code, output } = await this.run(script, timeoutMs);
    if (code !== 0) throw new Error(`in the guest, ${script}: exit code ${code}\n${output}`);
    return output;
  }

  write(file: string, content: string): Promise<string> {
    return this.must(
      `umask 077; mkdir -p '${path.dirname(file)}'; echo ${Buffer.from(content).toString('base64')} | base64 -d > '${file}'`,
    );
  }

  /**
   * What `tidemark mover enrol` makes on a gateway, made here, for Node.js takes ten seconds to start in there; then the mover, which enrols by itself. `settings`
   * go into its configuration. When it resolves the mover is up.
   */
  async enrol(
    cli: (...words: string[]) => Promise<string>,
    server: { readonly control: string; readonly enrolment: string; readonly token: string },
    settings: object,
  ): Promise<void> {
    const there = (endpoint: string) => `${hostAddress}:${/\d+$/.exec(endpoint)?.[0]}`;
    const [given, made] = ['token', 'mover.json'].map((name) => path.join(this.folder, name)) as [string, string];
    fs.writeFileSync(given, server.token, { mode: 0o600 });
    await cli(
      ...['mover', 'enrol', '--server', there(server.control), '--enrolment', there(server.enrolment), '--token-file', given],
      ...['--gateway', '--address', '127.0.0.1', '--config', made, '--data-folder', '/var/lib/tidemark/mover'],
    );
    const config = JSON.parse(fs.readFileSync(made, 'utf8')) as { host: object };
    const host = { ...config.host, enrolmentTokenFile: '/etc/tidemark/mover-token' };
    // From outside it is reached by the forwarded ports.
    const advertise = { endpoint: `127.0.0.1:${this.controlPort}`, dataEndpoints: [`127.0.0.1:${this.dataPort}`] };
    await this.write(host.enrolmentTokenFile, server.token);
    await this.write('/etc/tidemark/mover.json', JSON.stringify({ ...config, ...settings, host, advertise }));
    await this.startMover();
  }

  private async startMover(): Promise<void> {
    await this.must(
      `setsid node ${program} mover --config /etc/tidemark/mover.json >> /root/mover.log 2>&1 < /dev/null & echo $! > /root/mover.pid
      until grep -q '"ready":"mover"' /root/mover.log; do sleep 1; kill -0 "$(cat /root/mover.pid)" || { cat /root/mover.log; exit 1; }; done`,
      600_000,
    );
  }

  /** SIGTERM; answers how long it took to end, in milliseconds. */
  async stopMover(timeoutMs: number): Promise<number> {
    const since = performance.now();
    await this.must('kill -TERM "$(cat /root/mover.pid)"');
    // Nobody may have asked for the exit code of one that ended.
    const runs = `grep -q '^State:.[^Z]' "/proc/$(cat /root/mover.pid)/status"`;
    await eventually('the end of the mover', timeoutMs, async () => (await this.run(runs)).code !== 0, 500);
    return performance.now() - since;
  }

  moverLog(): Promise<string> {
    return this.must('cat /root/mover.log');
  }

  async stop(): Promise<void> {
    await this.moverLog().then(
      (log) => fs.writeFileSync(path.join(this.folder, 'mover.log'), log),
      () => undefined,
    );
    await this.qemu.kill();
  }
}
