/**
 * Repositories on shares of real servers (NFS-Ganesha, Samba), mounted by a gateway with the kernel's own clients. The gateway is a guest, for not every
 * kernel that tests run on has these clients. Needs root: Ganesha opens files by their handles.
 */
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

describe('shares behind a gateway', () => {
  let site: Site;
  let machine: GatewayMachine;
  let gateway: string;
  let passphraseFile: string;
  const servers = {} as Record<Kind, ShareServer>;

  const show = (id: string): Promise<Session> => site.session('session', 'show', id);
  const ended = (id: string, timeoutMs = 120_000) =>
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
    eventually(what, 60_000, async () => {
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
    [machine, servers.nfs, servers.smb] = await Promise.all([
      GatewayMachine.boot(folder('machine')),
      NfsServer.make(folder('nfs-server'), { backup: folder('nfs') }),
      SmbServer.make(folder('smb-server'), { backup: folder('smb') }),
      site.lab.startVm('fox'),
    ]);
    await Promise.all(Object.values(servers).map((server) => server.start()));
    await site.dirty('fox', 'fox-a', 4, 24, 5);
    const invitation = await site.installation.inviteGateway();
    gateway = invitation.moverId;
    await machine.enrol(invitation);
    await site.installation.gatewayConnected(gateway, 90_000);
    passphraseFile = path.join(site.folder, 'passphrase');
    fs.writeFileSync(passphraseFile, 'planted passphrase of the shares\n', { mode: 0o600 });
  }, 300_000);
  afterAll(async () => {
    await (machine as GatewayMachine | undefined)?.stop();
    await Promise.all(Object.values(servers).map((server) => server.kill()));
    await (site as Site | undefined)?.[Symbol.asyncDispose]();
  }, 90_000);

  describe.each(kinds)('%s', (kind) => {
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
    }, 120_000);

    it('rides out a restart of the server in the middle of a backup', async () => {
      await site.dirty('fox', 'fox-a', 4, 48, 8);
      const { id } = await site.run(kind, '--full', '--no-watch');
      await taskWhen(id, 'some of the disk to be read', (task) => readBytes(task) > 8 * mib);
      await servers[kind].kill();
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      await servers[kind].start();
      const task = good(await ended(id));
      expect(await offlineDifference(kind, task)).toBeUndefined();
      await engineClean(site.lab);
    }, 180_000);
  });
});
