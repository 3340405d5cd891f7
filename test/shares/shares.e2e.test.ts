/**
 * Repositories on shares of real servers (NFS-Ganesha, Samba), mounted by a gateway with the kernel's own clients. The gateway is a guest, for not every
 * kernel that tests run on has these clients. Needs root: Ganesha opens files by their handles.
 *
 * The guest's processor is emulated: what starts a program in there, or moves much data, takes long. So one guest serves both kinds, both go through the same at
 * the same time, and what shows a thing on one kind is not done on the other where that can only be easier: a restore reads through SMB, whose client
 * caches more; NFS is the one whose handles go stale and the one that the mover is stopped with, for its calls hang longer; SMB is the one that has a password, and
 * whose server falls silent rather than refusing.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually } from '../harness/child';
import { imageDifference } from '../harness/compare';
import { engineClean } from '../harness/engine-state';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';
import { GatewayMachine, hostAddress } from './gateway-machine';
import { NfsServer, SmbServer } from './share-servers';

const mib = 1024 * 1024;
const kinds = ['nfs', 'smb'] as const;
type Kind = (typeof kinds)[number];
const vms = { nfs: 'fox', smb: 'hen' } as const;
const plan = {
  vms: Object.values(vms).map((name) => ({
    ...{ name, cluster: 'Level46', nics: 1 },
    disks: [{ name: `${name}-a`, sizeMib: 64, format: 'cow' }],
  })),
};
/** Shorter than an administrator would have it, so that an outage is noticed sooner. */
const gatewaySettings = { shares: { patienceMs: 12_000 } };

/** Why it cannot be shown here. */
const notHere =
  process.getuid?.() !== 0
    ? 'it needs root'
    : process.arch !== 'x64'
      ? 'the gateway machine is an x86-64 one, built from packages of this machine'
      : undefined;
if (notHere !== undefined) console.warn(`shares of real servers are not tested: ${notHere}`);

(notHere === undefined ? describe : describe.skip)('shares behind a gateway', () => {
  let site: Site;
  let machine: GatewayMachine;
  let gateway: string;
  let gatewayIsUp: Promise<unknown>;
  let keyFile: string;
  /** Of servers and guest. */
  let folder: string;
  /** File systems with little room, which the servers share too. */
  const small = {} as Record<Kind, string>;
  const servers = {} as { nfs: NfsServer; smb: SmbServer };
  /** Sessions that began while the servers were away. */
  const waiting = {} as Record<Kind, string>;

  const show = (id: string): Promise<Session> => site.session('session', 'show', id);
  const dirty = (kind: Kind, offsetMib: number, lengthMib: number, seed: number) =>
    site.dirty(vms[kind], `${vms[kind]}-a`, offsetMib, lengthMib, seed);
  const startRun = async (kind: Kind) => (await site.run(kind, '--no-watch')).id;
  /** The task of a session that ended well, once it has. */
  const endedWell = async (id: string): Promise<Task> => good(await site.session('session', 'watch', id));
  const good = (session: Session): Task => {
    const [task] = session.tasks as [Task];
    expect([task.failure, ['success', 'warning'].includes(session.state)]).toEqual([null, true]);
    return task;
  };
  /** What the offline reader finds in the folder that the server exports, against what the disk held. */
  const expectReadable = async (kind: Kind, task: Task): Promise<void> => {
    const disk = task.disks[0]!;
    const out = path.join(folder, `${task.pointId}.raw`);
    await site.installation.cli(
      ...['point', 'read', '--repository', servers[kind].at('backup'), '--key-file', keyFile],
      ...['--point', task.pointId ?? '', '--disk', disk.diskId, '--out', out],
    );
    expect(await imageDifference(site.captureOf(task.sessionId, disk.diskId), out)).toBeUndefined();
    fs.rmSync(out);
  };
  /** Both kinds at the same time; says which one it was that failed, when both are through. */
  const onBoth = async (work: (kind: Kind) => Promise<void>): Promise<void> => {
    const ends = await Promise.allSettled(kinds.map(work));
    ends.forEach((end, index) => {
      if (end.status === 'rejected') throw new Error(`on ${kinds[index]}: ${(end.reason as Error).message}`, { cause: end.reason });
    });
  };
  const accessFile = (password: string) => {
    const file = path.join(folder, 'share-user');
    fs.writeFileSync(file, `${SmbServer.user}\n${password}\n`, { mode: 0o600 });
    return file;
  };

  beforeAll(async () => {
    const parts = GatewayMachine.parts();
    const made = (name: string) => {
      const to = path.join(folder, name);
      fs.mkdirSync(to, { recursive: true });
      return to;
    };
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-shares-'));
    keyFile = path.join(folder, 'key');
    fs.writeFileSync(keyFile, `${'5a'.repeat(32)}\n`, { mode: 0o600 });
    for (const kind of kinds) {
      small[kind] = made(`small-${kind}`);
      execFileSync('mke2fs', ['-q', '-t', 'ext4', '-m', '0', `${small[kind]}.img`, '16M']);
      execFileSync('mount', ['-o', 'loop', `${small[kind]}.img`, small[kind]]);
    }
    const installation = { furtherAddresses: [hostAddress] };
    // What is up is ended in the end, also when something else did not come up.
    const ends = await Promise.allSettled([
      Site.start({ plan, settings: { retryDelaysMs: [500, 1000] }, installation }).then((started) => (site = started)),
      GatewayMachine.boot(made('machine'), parts).then((booted) => (machine = booted)),
      NfsServer.make(made('nfs-server'), { backup: made('nfs'), small: small.nfs }).then((server) => (servers.nfs = server)),
      SmbServer.make(made('smb-server'), { backup: made('smb'), small: small.smb }).then((server) => (servers.smb = server)),
    ]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason as Error;
    const invitation = await site.installation.inviteGateway();
    gateway = invitation.moverId;
    // The machine has other work until it is needed.
    gatewayIsUp = machine.enrol((...words) => site.installation.cli(...words), invitation, gatewaySettings);
    gatewayIsUp.catch(() => undefined);
    await onBoth(async (kind) => {
      await Promise.all([servers[kind].start(), site.lab.startVm(vms[kind])]);
      await dirty(kind, 4, 24, 5);
    });
  }, 900_000);
  afterAll(async () => {
    await (machine as GatewayMachine | undefined)?.stop();
    await Promise.all(Object.values(servers).map((server) => server.kill()));
    for (const at of Object.values(small)) execFileSync('umount', ['-l', at]);
    await (site as Site | undefined)?.[Symbol.asyncDispose]();
    if (process.env['TIDEMARK_KEEP_SITES'] === undefined) fs.rmSync(folder, { recursive: true, force: true });
  }, 300_000);

  /** Mounts a share in the guest once more, as another machine would: nothing is shared with the mounts that are there. */
  const mountAgain = async (kind: Kind, share: string, point: string): Promise<void> => {
    const { port } = servers[kind];
    const options = 'cache=strict,file_mode=0600,dir_mode=0700,credentials=/root/share-user';
    if (kind === 'smb') await machine.write('/root/share-user', `username=${SmbServer.user}\npassword=${SmbServer.password}\n`);
    await machine.must(
      kind === 'nfs'
        ? `mkdir -p ${point} && mount -t nfs -o nosharecache,lookupcache=positive,vers=4.1,port=${port} ${hostAddress}:/${share} ${point}`
        : `mkdir -p ${point} && mount -t cifs -o nosharesock,${options},port=${port} //${hostAddress}/${share} ${point}`,
    );
  };
  it('has one winner where two machines write the same name, and says so when a share is full', async () => {
    for (const kind of kinds) fs.mkdirSync(path.join(small[kind], 'written'));
    for (const kind of kinds) for (const name of ['one', 'two']) await mountAgain(kind, 'small', `/mnt/${kind}-${name}`);
    const pairs = kinds.map((kind) => `/mnt/${kind}-one/written,/mnt/${kind}-two/written`);
    const output = await machine.must(`node /opt/tidemark/dist/mover/testing/share-writer.js 10 ${pairs.join(' ')} < /dev/null`, 800_000);
    const found = JSON.parse(output) as {
      readonly contended: readonly { readonly won: readonly string[] }[];
      readonly filled: { readonly code: string; readonly whole: number; readonly listed: number };
    }[];
    for (const [index, kind] of kinds.entries()) {
      const { contended, filled } = found[index]!;
      const at = path.join(small[kind], 'written');
      const written = (name: string) => fs.readFileSync(path.join(at, 'writers', name), 'utf8');
      expect([kind, written('counter')]).toEqual([kind, '20']);
      const names = contended.flatMap(({ won }) => won).sort();
      expect([kind, ...names]).toEqual([kind, ...Array.from({ length: 10 }, (_, number) => `name-${number}`)]);
      for (const [writer, { won }] of contended.entries()) for (const name of won) expect(written(name)).toBe(`writer-${writer}`);
      expect([kind, filled]).toMatchObject([kind, { code: 'REPOSITORY_FULL', listed: filled.whole }]);
      expect([kind, filled.whole > 0]).toEqual([kind, true]);
      expect(fs.readdirSync(path.join(at, 'tmp'))).toEqual([]);
    }
    for (const kind of kinds) for (const name of ['one', 'two']) await machine.must(`umount /mnt/${kind}-${name}`);
  }, 900_000);

  it('keeps an encrypted repository: full through a restart of the server, incremental, verified, restored, and read without any of us', async () => {
    await gatewayIsUp;
    await site.installation.gatewayConnected(gateway, 240_000);
    await onBoth(async (kind) => {
      await site.installation.cli(
        ...['repository', 'add', kind, '--location', servers[kind].location('backup'), '--key-file', keyFile],
        ...(kind === 'smb' ? ['--access-key-file', accessFile(SmbServer.password)] : []),
      );
      await site.installation.cli('job', 'create', kind, '--repository', kind, '--vm', vms[kind]);
      const id = await startRun(kind);
      await eventually('a piece of a pack at the server', 400_000, () => largestTemporary(servers[kind].at('backup')) >= 4 * mib, 20);
      await servers[kind].kill();
      expect((await show(id)).endedAt).toBeNull();
      await servers[kind].start();
      const full = await endedWell(id);
      expect(full).toMatchObject({ path: { moverId: gateway }, disks: [{ mode: 'full' }] });
      await dirty(kind, 40, 2, kind === 'nfs' ? 6 : 7);
      const incremental = good(await site.run(kind));
      expect(incremental.disks[0]).toMatchObject({ mode: 'incremental' });
      for (const task of [full, incremental]) await expectReadable(kind, task);
      if (kind === 'smb') {
        const out = path.join(folder, 'restored.raw');
        const { diskId } = incremental.disks[0]!;
        good(await site.session('restore', 'disk', incremental.pointId ?? '', diskId, '--to-file', out));
        expect(await imageDifference(site.captureOf(incremental.sessionId, diskId), out)).toBeUndefined();
      }
      expect((await site.session('repository', 'verify', kind)).state).toBe('success');
    });
    const mounted = await machine.must('cat /proc/mounts');
    expect(mounted).toMatch(/ nfs4 .*,softerr,.*,timeo=40,retrans=2,/);
    expect(mounted).toMatch(/ cifs .*,cache=strict,.*,soft,.*echo_interval=4,/);
  }, 1_200_000);

  const changed = 'another, planted password';
  it('smb: tries another password beside the mount in use, and takes the one that the server takes', async () => {
    const edit = (password: string) =>
      site.installation.tryCli('repository', 'edit', 'smb', '--access-key-file', accessFile(password), '--json');
    servers.smb.setPassword(changed);
    const refused = { code: 2, stdout: expect.stringContaining('REPOSITORY_ACCESS_REFUSED') as string };
    expect(await edit('planted, and wrong')).toMatchObject(refused);
    expect(await edit(changed)).toMatchObject({ code: 0 });
    expect(await edit(SmbServer.password)).toMatchObject(refused);
    expect(await mountsOf('smb')).toBe(1);
  }, 900_000);

  it('says so while servers stay away, whether they refuse or fall silent, and serves others', async () => {
    await site.installation.cli(...['repository', 'add', 'plain', '--location', '/root/plain', '--no-encryption', '--gateway', gateway]);
    const saidBefore = (await machine.moverLog()).length;
    await servers.nfs.kill();
    servers.smb.freeze();
    for (const kind of kinds) await dirty(kind, 50, 2, 9);
    for (const kind of kinds) waiting[kind] = await startRun(kind);
    expect((await site.session('repository', 'verify', 'plain')).state).toBe('success');
    await onBoth(async (kind) => {
      await eventually(
        'the reason',
        400_000,
        async () => (await show(waiting[kind])).tasks[0]?.waitingReason === 'repository-no-answer',
        1000,
      );
      const word = `${kind === 'nfs' ? 'ETIMEDOUT' : 'EHOSTDOWN'}, the server of its share does not answer`;
      await eventually('the word of the mover', 400_000, async () => (await machine.moverLog()).slice(saidBefore).includes(word), 1000);
    });
    expect(await site.installation.cli('gateway', 'show', gateway)).toMatch(/state: +connected/);
  }, 900_000);

  it('goes on by itself when the servers are back: nfs with the same files under other handles, smb with the other password', async () => {
    const at = servers.nfs.at('backup');
    // As after a restore of the server's own disk: every handle that the client has is stale.
    fs.cpSync(at, `${at}.new`, { recursive: true, preserveTimestamps: true });
    fs.rmSync(at, { recursive: true });
    fs.renameSync(`${at}.new`, at);
    await servers.smb.kill();
    await Promise.all(kinds.map((kind) => servers[kind].start()));
    await onBoth(async (kind) => {
      await expectReadable(kind, await endedWell(waiting[kind]));
      expect((await site.session('repository', 'verify', kind)).state).toBe('success');
      expect(await mountsOf(kind)).toBe(1);
    });
    await engineClean(site.lab);
  }, 900_000);

  it('nfs: can be stopped while calls hang', async () => {
    await servers.nfs.kill();
    await eventually(
      'a call that hangs',
      240_000,
      async () => (await machine.run('cat /proc/$(cat /root/mover.pid)/task/*/wchan | grep -q rpc')).code === 0,
      500,
    );
    // On a quiet machine it takes 10 s; unless calls are cut off, until the server is back.
    await machine.stopMover(300_000);
    expect(await machine.must('cat /proc/mounts')).not.toMatch(/ (nfs4|cifs) /);
  }, 900_000);

  const mountsOf = async (kind: Kind): Promise<number> =>
    (await machine.must('cat /proc/mounts')).split('\n').filter((line) => line.split(' ')[2] === (kind === 'nfs' ? 'nfs4' : 'cifs')).length;
});

/** Size of the largest object that is being written. */
function largestTemporary(repository: string): number {
  const at = path.join(repository, 'tmp');
  const names = fs.existsSync(at) ? fs.readdirSync(at) : [];
  return Math.max(0, ...names.map((name) => fs.statSync(path.join(at, name), { throwIfNoEntry: false })?.size ?? 0));
}
