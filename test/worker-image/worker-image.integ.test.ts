/**
 * The worker image itself: built from packages (Debian's part is cached), booted as oVirt boots it, with an emulated CPU. What a worker does
 * once it runs is the business of the end-to-end suites.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = path.resolve(__dirname, '..', '..', '..');
const script = (name: string) => path.join(root, 'scripts', 'worker-image', name);

interface Manifest {
  readonly version: string;
  readonly sha256: string;
  readonly fileBytes: number;
  readonly diskBytes: number;
  readonly architecture: string;
  readonly packages: Readonly<Record<string, string>>;
}

interface Seen {
  readonly console: string;
  readonly tokenOnConsole: boolean;
}

interface GoodBoot extends Seen {
  readonly timeServer: boolean;
  readonly clockOffsetSeconds: number;
  readonly execRefused: boolean;
  readonly interfaces: readonly { readonly name: string; readonly 'ip-addresses'?: readonly { readonly 'ip-address': string }[] }[];
  readonly fileSystems: readonly { readonly mountpoint: string; readonly type: string }[];
}

/** Workers are x86-64 machines, and their image is built on one. */
const onX64 = process.arch === 'x64' ? describe : describe.skip;

onX64('worker image', () => {
  let manifestFile: string;
  let manifest: Manifest;

  beforeAll(async () => {
    const { stdout } = await run('python3', [script('main.py')], { cwd: root });
    manifestFile = stdout.trim().split('\n').at(-1) ?? '';
    manifest = JSON.parse(fs.readFileSync(manifestFile, 'utf8')) as Manifest;
  }, 900_000);

  const boot = async <T>(scenario: string, machine: string): Promise<T> =>
    JSON.parse((await run('python3', [script('boot_test.py'), manifestFile, scenario, machine])).stdout) as T;

  test('the manifest says what the file is, and what went in', () => {
    const image = fs.readFileSync(manifestFile.replace(/json$/, 'qcow2'));
    expect(manifest).toMatchObject({
      sha256: createHash('sha256').update(image).digest('hex'),
      fileBytes: image.length,
      diskBytes: Number(image.readBigUInt64BE(24)),
      architecture: 'x86_64',
    });
    expect(manifest.version).toMatch(/^\d+\.\d+\.\d+-[0-9a-f]{8}$/);
    expect(image.length).toBeLessThan(350 * 1024 * 1024);
    expect(Object.keys(manifest.packages)).toEqual(
      expect.arrayContaining(['linux-image-amd64', 'qemu-guest-agent', 'node', '@grpc/grpc-js']),
    );
  });

  test('the package for machines without internet has both files where the plug-in looks', async () => {
    const { stdout } = await run('python3', [script('main.py'), '--deb'], { cwd: root });
    const { stdout: listing } = await run('dpkg-deb', ['--contents', stdout.trim().split('\n').at(-1) ?? '']);
    for (const ending of ['json', 'qcow2'])
      expect(listing).toContain(`./usr/share/tidemark/worker-image/tidemark-worker-${manifest.version}.${ending}`);
  });

  test('the steps of the build repeat themselves bit by bit, and refuse what does not belong into a worker', async () => {
    await run('python3', [script('self_test.py')]);
  });

  describe('booted', () => {
    let good: GoodBoot;
    let refused: Seen;

    /** A worker does not wait long for the time: where this machine stood still just then, the time server was not asked in earnest. */
    const bootAnswered = async (): Promise<GoodBoot> => {
      for (let tries = 3; ; tries -= 1) {
        const booted = await boot<GoodBoot>('good', 'q35_ovmf');
        if (tries === 1 || !/time: \S+ did not answer/.test(booted.console)) return booted;
      }
    };

    beforeAll(async () => {
      [good, refused] = await Promise.all([bootAnswered(), boot<Seen>('bad-seed', 'i440fx_sea_bios')]);
    }, 1_500_000);

    test('with UEFI on q35 it finds its settings on the CD, sets itself up and dials the plug-in', () => {
      expect(good.console).toContain(`appliance: started, image ${manifest.version}`);
      expect(good.console).toMatch(/worker: dialling 10\.0\.2\.2:\d+ to enrol/);
      const addresses = (name: string) =>
        good.interfaces.find((one) => one.name === name)?.['ip-addresses']?.map((one) => one['ip-address']);
      expect(addresses('eth0')).toEqual(['10.0.2.15']);
      expect(addresses('eth1')).toEqual(expect.arrayContaining(['10.9.9.7', expect.stringMatching(/^fd09:/)]));
    });

    test('its root is read-only, and is the only file system of a disk', () => {
      expect(good.console).toContain('the root file system is read-only');
      expect(good.fileSystems).toMatchObject([{ mountpoint: '/', type: 'erofs' }]);
    });

    test('the guest agent answers, but runs nothing for anybody', () => {
      expect(good.execRefused).toBe(true);
    });

    test('a clock that is an hour wrong is set before the worker starts', () => {
      // Where the test may not take the port of NTP there is no time server, and the console says so.
      if (good.timeServer)
        expect([good.console, Math.abs(good.clockOffsetSeconds) < 2]).toEqual([expect.stringContaining('time: set by 10.0.2.2'), true]);
      else expect(good.console).toContain('no time server is known');
    });

    test('the power button ends it in good order', () => {
      expect(good.console).toMatch(/power button was pressed[^]*stopping \(SIGTERM\)[^]*ended with 0[^]*Power down/);
    });

    test('with BIOS on i440fx and settings that cannot be used it says so and goes off by itself', () => {
      expect(refused.console).toMatch(/taskSlots: [^]*\[SEED_INVALID\][^]*ended with 3[^]*Power down/);
    });

    test('it has little enough to do to be there within 30 s, however fast the machine is that tests', async () => {
      // On one CPU of a billion instructions a second, without firmware, enrolment and self-test. What it waits for passes in real time: a
      // machine that stands still meanwhile adds to it, and nothing takes away.
      let least = Infinity;
      for (let tries = 3; tries > 0 && least >= 25; tries -= 1) {
        const counted = await boot<{ seconds: number; computedSeconds: number }>('counted', 'q35_sea_bios');
        expect(counted.computedSeconds).toBeGreaterThan(1);
        least = Math.min(least, counted.seconds);
      }
      expect(least).toBeLessThan(25);
    }, 2_000_000);

    test('the token is on no console', () => {
      expect([good.tokenOnConsole, refused.tokenOnConsole]).toEqual([false, false]);
    });
  });
});
