/**
 * Repositories on shares of real servers (NFS-Ganesha, Samba), mounted by a gateway with the kernel's own clients. The gateway is a guest, for not every
 * kernel that tests run on has these clients. Needs root: Ganesha opens files by their handles.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import { imageDifference } from '../harness/compare';
import { engineClean } from '../harness/engine-state';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';
import { GatewayMachine, hostAddress } from './gateway-machine';
import { NfsServer, SmbServer } from './share-servers';
import type { ShareServer } from './share-servers';

const mib = 1024 * 1024;
const plan = {
  vms: [{ name: 'fox', cluster: 'Level46', nics: 1, disks: [{ name: 'fox-a', sizeMib: 64, format: 'cow' }] }],
};
const kinds = ['nfs', 'smb'] as const;
type Kind = (typeof kinds)[number];

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
  let passphraseFile: string;
  /** A file system with little room, which both servers share too. */
  let small: string;
  const servers = {} as Record<Kind, ShareServer>;

  const show = (id: string): Promise<Session> => site.session('session', 'show', id);
  const ended = (id: string, timeoutMs = 240_000) =>
    eventually(
      'the end of the session',
      timeoutMs,
      async () => {
        const session = await show(id);
        return session.endedAt === null ? undefined : session;
      },
      500,
    );
  const taskWhen = (id: string, what: string, holds: (task: Task) => boolean) =>
    eventually(what, 120_000, async () => {
      const [task] = (await show(id)).tasks;
      return task && holds(task) ? task : undefined;
    });
  const readBytes = (task: Task) => task.disks.reduce((sum, { counters }) => sum + counters.readBytes, 0);
  /** What the offline reader finds in the folder that the server exports, against what the disk held. */
  const offlineDifference = async (kind: Kind, task: Task): Promise<string | undefined> => {
    const disk = task.disks[0]!;
    const out = path.join(site.folder, `${task.pointId}.raw`);
    await site.installation.cli(
      ...['point', 'read', '--repository', servers[kind].at('backup'), '--passphrase-file', passphraseFile],
      ...['--point', task.pointId ?? '', '--disk', disk.diskId, '--out', out],
    );
    const difference = await imageDifference(site.captureOf(task.sessionId, disk.diskId), out);
    fs.rmSync(out);
    return difference;
  };
  const good = (session: Session): Task => {
    const [task] = session.tasks as [Task];
    expect([task.failure, ['success', 'warning'].includes(session.state)]).toEqual([null, true]);
    return task;
  };

  beforeAll(async () => {
    GatewayMachine.parts();
    const installation = { furtherAddresses: [hostAddress] };
    site = await Site.start({ plan, settings: { retryDelaysMs: [500, 1000] }, installation });
    const folder = (name: string) => {
      const made = path.join(site.folder, name);
      fs.mkdirSync(made, { recursive: true });
      return made;
    };
    small = folder('small');
    execFileSync('mke2fs', ['-q', '-t', 'ext4', '-m', '0', `${small}.img`, '64M']);
    execFileSync('mount', ['-o', 'loop', `${small}.img`, small]);
    [machine, servers.nfs, servers.smb] = await Promise.all([
      GatewayMachine.boot(folder('machine')),
      NfsServer.make(folder('nfs-server'), { backup: folder('nfs'), small }),
      SmbServer.make(folder('smb-server'), { backup: folder('smb'), small }),
      site.lab.startVm('fox'),
    ]);
    await Promise.all(Object.values(servers).map((server) => server.start()));
    await site.dirty('fox', 'fox-a', 4, 24, 5);
    const invitation = await site.installation.inviteGateway();
    gateway = invitation.moverId;
    await machine.enrol(invitation);
    await site.installation.gatewayConnected(gateway, 180_000);
    passphraseFile = path.join(site.folder, 'passphrase');
    fs.writeFileSync(passphraseFile, 'planted passphrase of the shares\n', { mode: 0o600 });
  }, 400_000);
  afterAll(async () => {
    await (machine as GatewayMachine | undefined)?.stop();
    await Promise.all(Object.values(servers).map((server) => server.kill()));
    execFileSync('umount', ['-l', small]);
    await (site as Site | undefined)?.[Symbol.asyncDispose]();
  }, 90_000);

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
  const writer = '/opt/tidemark/dist/mover/testing/share-writer.js';

  describe.each(kinds)('%s', (kind) => {
    it('has one winner where two machines write the same name, and says so when it is full', async () => {
      const points = ['one', 'two'].map((name) => `/mnt/${kind}-${name}`) as [string, string];
      for (const point of points) await mountAgain(kind, 'small', point);
      const folder = path.join(small, kind);
      fs.mkdirSync(folder);
      const outputs = await Promise.all(
        points.map(async (point, index) => {
          const output = await machine.must(`node ${writer} contend ${point}/${kind} writer-${index} 10 < /dev/null`, 120_000);
          return JSON.parse(output) as { won: string[] };
        }),
      );
      expect(fs.readFileSync(path.join(folder, 'writers/counter'), 'utf8')).toBe('20');
      const names = outputs.flatMap(({ won }) => won).sort();
      expect(names).toEqual(Array.from({ length: 10 }, (_, index) => `name-${index}`));
      for (const [index, { won }] of outputs.entries())
        for (const name of won) expect(fs.readFileSync(path.join(folder, 'writers', name), 'utf8')).toBe(`writer-${index}`);
      const filled = JSON.parse(await machine.must(`node ${writer} fill ${points[0]}/${kind} < /dev/null`, 120_000)) as object;
      expect(filled).toMatchObject({ code: 'REPOSITORY_FULL' });
      const { whole, listed } = filled as { whole: number; listed: number };
      expect([whole > 0, listed]).toEqual([true, whole]);
      expect(fs.readdirSync(path.join(folder, 'tmp'))).toEqual([]);
      for (const point of points) await machine.must(`umount ${point}`);
      fs.rmSync(folder, { recursive: true });
    }, 300_000);

    it('keeps an encrypted repository: full, incremental, verified, restored, and read without any of us', async () => {
      const access = path.join(site.folder, 'share-user');
      fs.writeFileSync(access, `${SmbServer.user}\n${SmbServer.password}\n`, { mode: 0o600 });
      await site.installation.cli(
        ...['repository', 'add', kind, '--location', servers[kind].location('backup'), '--passphrase-file', passphraseFile],
        ...(kind === 'smb' ? ['--access-key-file', access] : []),
      );
      await site.installation.cli('job', 'create', kind, '--repository', kind, '--vm', 'fox');
      const full = good(await site.run(kind));
      expect(full).toMatchObject({ path: { moverId: gateway }, disks: [{ mode: 'full' }] });
      await site.dirty('fox', 'fox-a', 40, 2, kind === 'nfs' ? 6 : 7);
      const incremental = good(await site.run(kind));
      expect(incremental.disks[0]).toMatchObject({ mode: 'incremental' });
      for (const task of [full, incremental]) expect(await offlineDifference(kind, task)).toBeUndefined();
      const out = path.join(site.folder, 'restored.raw');
      const disk = incremental.disks[0]!.diskId;
      good(await site.session('restore', 'disk', incremental.pointId ?? '', disk, '--to-file', out));
      expect(await imageDifference(site.captureOf(incremental.sessionId, disk), out)).toBeUndefined();
      fs.rmSync(out);
      expect((await site.session('repository', 'verify', kind)).state).toBe('success');
      const mounted = await machine.must('cat /proc/mounts');
      expect(mounted).toMatch(kind === 'nfs' ? / nfs4 .*,softerr,.*,timeo=200,retrans=2,/ : / cifs .*,cache=strict,.*,soft,/);
    }, 300_000);

    it('rides out a restart of the server in the middle of a backup', async () => {
      await site.dirty('fox', 'fox-a', 4, 48, 8);
      const { id } = await site.run(kind, '--full', '--no-watch');
      await taskWhen(id, 'some of the disk to be read', (task) => readBytes(task) > 8 * mib);
      await servers[kind].kill();
      expect((await show(id)).endedAt).toBeNull();
      await servers[kind].start();
      const task = good(await ended(id));
      expect(await offlineDifference(kind, task)).toBeUndefined();
      await engineClean(site.lab);
    }, 300_000);
  });

  it('nfs: while the server stays away it says so, serves others, and can be stopped; everything goes on when the server is back', async () => {
    await servers.nfs.kill();
    const { id } = await site.run('nfs', '--full', '--no-watch');
    expect((await site.session('repository', 'verify', 'smb')).state).toBe('success');
    await taskWhen(id, 'the reason', ({ waitingReason }) => waitingReason === 'repository-no-answer');
    await eventually('the word of the mover', 120_000, async () =>
      (await machine.moverLog()).includes('the server of its share does not answer'),
    );
    expect(await site.installation.cli('gateway', 'show', gateway)).toMatch(/state: +connected/);
    // Calls on the share hang just now. On a quiet machine it takes 10 s; unless they are cut off, until the server is back.
    await machine.stopMover(120_000);
    expect(await machine.must('cat /proc/mounts')).not.toMatch(/ nfs4 /);
    await machine.startMover();
    await servers.nfs.start();
    await ended(id);
    expect(await offlineDifference('nfs', good(await site.run('nfs')))).toBeUndefined();
    await engineClean(site.lab);
  }, 400_000);

  it('nfs: goes on when the server has the same files under other handles', async () => {
    const folder = servers.nfs.at('backup');
    await servers.nfs.kill();
    // As after a restore of the server's own disk: every handle that the client has is stale.
    fs.cpSync(folder, `${folder}.new`, { recursive: true, preserveTimestamps: true });
    fs.rmSync(folder, { recursive: true });
    fs.renameSync(`${folder}.new`, folder);
    await servers.nfs.start();
    await site.dirty('fox', 'fox-a', 50, 2, 9);
    const task = good(await site.run('nfs'));
    expect(await offlineDifference('nfs', task)).toBeUndefined();
    expect((await site.session('repository', 'verify', 'nfs')).state).toBe('success');
  }, 400_000);
});
