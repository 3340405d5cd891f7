import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FleetHarness, hostId, makeDisk, mib, runProgram, startFleet, ticketFor, waitUntil } from './testing/fleet-harness';
import { seededBytes } from './seeded-bytes';

/** Tickets, uploads and the proxy, on the real imageio daemon. */
describe('transfers', () => {
  let harness: FleetHarness;
  let host: string;

  beforeAll(async () => {
    harness = await startFleet();
    host = (await harness.fleet.startHost(hostId)).baseUrl;
  });

  afterAll(async () => {
    await harness.close();
  });

  test('an upload by PUT and PATCH is verified and holds the bytes; the proxy door gives the same', async () => {
    const { fleet, client, directory } = harness;
    const disk = await makeDisk(fleet, 'cow', 16 * mib);
    const target = await fleet.startNbd(hostId, 'upload', disk, { writable: true });
    const ticket = ticketFor(target, { ops: ['read', 'write'] });
    await fleet.putTicket(hostId, ticket);
    const proxy = await fleet.startProxy();
    await fleet.putTicket('proxy', { ...ticket, url: `${host}/images/${ticket.uuid}` });
    const url = `${host}/images/${ticket.uuid}`;
    const content = seededBytes(5, 0, 2 * mib);
    const put = async (base: string, offset: number, body: Buffer): Promise<void> => {
      const range = `bytes ${offset}-${offset + body.length - 1}/*`;
      expect(
        (await client.call('PUT', `${base}?flush=n`, { 'content-range': range, 'content-length': String(body.length) }, body)).status,
      ).toBe(200);
    };
    await put(url, 0, content);
    await put(`${proxy.baseUrl}/images/${ticket.uuid}`, 8 * mib, content);
    const patch = async (body: unknown): Promise<void> => {
      const text = JSON.stringify(body);
      const headers = { 'content-type': 'application/json', 'content-length': String(text.length) };
      expect((await client.call('PATCH', url, headers, text)).status).toBe(200);
    };
    await patch({ op: 'zero', offset: mib, size: mib });
    await patch({ op: 'flush' });
    expect((await fleet.ticket(hostId, ticket.uuid))?.active).toBe(false);
    await fleet.removeTicket('proxy', ticket.uuid);
    await fleet.removeTicket(hostId, ticket.uuid);
    await fleet.removeTicket(hostId, ticket.uuid); // unknown is fine
    await fleet.stopNbd('upload');
    await fleet.verifyVolume(disk.chain[0]!, 'cow');
    expect(await fleet.volumeActualBytes(disk.chain[0]!)).toBeLessThan(4 * mib);

    const dump = join(directory, 'uploaded');
    await fleet.dumpDisk(disk, dump);
    const expected = Buffer.alloc(16 * mib);
    content.copy(expected, 0, 0, mib);
    content.copy(expected, 8 * mib);
    expect((await readFile(dump)).equals(expected)).toBe(true);
  });

  test('storage that is full fails the client that writes, not the one that reads', async () => {
    const { fleet, client } = harness;
    const disk = await makeDisk(fleet, 'cow', 16 * mib);
    const ticket = ticketFor(await fleet.startNbd(hostId, 'full', disk, { writable: true, full: true }), { ops: ['read', 'write'] });
    await fleet.putTicket(hostId, ticket);
    const url = `${host}/images/${ticket.uuid}`;
    const written = await client.call('PUT', url, { 'content-length': String(mib) }, seededBytes(6, 0, mib));
    expect(written.status).toBe(500);
    const log = await readFile(join(harness.dataDir, 'hosts', hostId, 'imageio', 'daemon.log'), 'utf8');
    expect(log).toContain('No space left on device');
    expect((await client.call('GET', url, { range: 'bytes=0-511' })).status).toBe(206);
    await fleet.removeTicket(hostId, ticket.uuid);
    await fleet.stopNbd('full');
  });

  test('uploads in the disk format go to the file, and a volume that reaches for other files is refused', async () => {
    const { fleet, client, directory } = harness;
    const disk = await makeDisk(fleet, 'cow', 4 * mib);
    const volume = disk.chain[0]!;
    const source = join(directory, 'source.qcow2');
    runProgram('qemu-img', ['create', '-q', '-f', 'qcow2', source, '4M']);
    runProgram('qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 0 64k', source]);
    const bytes = await readFile(source);
    const ticket = ticketFor({ url: await fleet.volumeFileUrl(volume), sizeBytes: bytes.length, dirty: false }, { ops: ['write'] });
    await fleet.putTicket(hostId, ticket);
    const { status } = await client.call('PUT', `${host}/images/${ticket.uuid}`, { 'content-length': String(bytes.length) }, bytes);
    expect(status).toBe(200);
    await fleet.removeTicket(hostId, ticket.uuid);
    await fleet.verifyVolume(volume, 'cow');
    runProgram('qemu-img', ['compare', source, fileURLToPath(ticket.url)]);

    await expect(fleet.verifyVolume(volume, 'raw')).rejects.toMatchObject({ code: 'UPLOAD_INVALID' });
    const path = fileURLToPath(ticket.url);
    runProgram('qemu-img', ['rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/hostname', path]);
    await expect(fleet.verifyVolume(volume, 'cow')).rejects.toMatchObject({ code: 'UPLOAD_INVALID' });
    await writeFile(path, Buffer.alloc(512));
    await expect(fleet.verifyVolume(volume, 'cow')).rejects.toMatchObject({ code: 'UPLOAD_INVALID' });
  });

  test('tickets expire with 403, are extended, and die with the daemon', async () => {
    const { fleet, client } = harness;
    const disk = await makeDisk(fleet, 'raw', mib);
    const served = await fleet.startNbd(hostId, 'tickets', disk, { writable: false });
    const ticket = ticketFor(served, { timeoutSeconds: 1 });
    await fleet.putTicket(hostId, ticket);
    const get = async (): Promise<number> => (await client.call('GET', `${host}/images/${ticket.uuid}`, { range: 'bytes=0-511' })).status;
    await waitUntil('expiry', async () => ((await fleet.ticket(hostId, ticket.uuid))?.expiresInSeconds ?? 1) <= 0, 60_000);
    expect(await get()).toBe(403);
    const before = performance.now();
    await fleet.extendTicket(hostId, ticket.uuid, 1000);
    const { expiresInSeconds } = (await fleet.ticket(hostId, ticket.uuid))!;
    const passedSeconds = (performance.now() - before) / 1000;
    // Whole seconds, and the clocks of two processes.
    expect(expiresInSeconds).toBeGreaterThan(998 - passedSeconds);
    expect(expiresInSeconds).toBeLessThan(1001);
    expect(await get()).toBe(206);
    await expect(fleet.extendTicket(hostId, 'unknown', 10)).rejects.toMatchObject({ code: 'NOT_FOUND' });

    await fleet.stallImageio(hostId, true);
    await expect(fleet.startHost(hostId)).rejects.toMatchObject({ code: 'IMAGEIO_UNREACHABLE' });
    await fleet.stallImageio(hostId, false);
    expect((await fleet.startHost(hostId)).baseUrl).toBe(host);
    await fleet.extendTicket(hostId, ticket.uuid, 1000); // an extension holds until the next use only
    expect(await get()).toBe(206);
    await fleet.killImageio(hostId);
    await expect(fleet.ticket(hostId, ticket.uuid)).rejects.toMatchObject({ code: 'IMAGEIO_UNREACHABLE' });
    expect((await fleet.startHost(hostId)).baseUrl).toBe(host); // a host keeps its address
    expect(await get()).toBe(403);
    expect(await fleet.ticket(hostId, ticket.uuid)).toBeUndefined();
    await fleet.stopNbd('tickets');
  });

  test('a daemon that answered while the lab itself stood still was not silent', async () => {
    const { fleet } = harness;
    await fleet.stallImageio(hostId, true);
    const asked = fleet.startHost(hostId);
    asked.catch(() => undefined); // awaited below
    await new Promise((resume) => setTimeout(resume, 200));
    await fleet.stallImageio(hostId, false);
    // For longer than a silent one is waited for in all.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3500);
    expect((await asked).baseUrl).toBe(host);
  });

  test('a second fleet object over the same directory finds daemon and tickets', async () => {
    const { fleet } = harness;
    const ticket = ticketFor({ url: 'file:///dev/null', sizeBytes: 1, dirty: false });
    await fleet.putTicket(hostId, ticket);
    const second = harness.reopen();
    expect((await second.startHost(hostId)).baseUrl).toBe(host);
    expect(await second.ticket(hostId, ticket.uuid)).toBeDefined();
  });
});
