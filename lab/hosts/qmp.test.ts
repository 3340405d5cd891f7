import { mkdtempSync, rmSync } from 'node:fs';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guestAgentCall } from './guest-agent';
import { QmpClient } from './qmp';

/** The monitor and the agent against peers that misbehave. */
describe('monitor and guest agent clients', () => {
  let directory: string;
  let server: Server;
  const sockets = new Set<Socket>();

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'qmp-'));
  });

  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resume) => server.close(resume));
    rmSync(directory, { recursive: true });
  });

  /** Answers each line with what `answer` returns; undefined is silence. */
  const serve = async (greeting: string, answer: (message: Record<string, unknown>, socket: Socket) => unknown): Promise<string> => {
    const path = join(directory, 'socket');
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.write(greeting);
      let text = '';
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
        for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
          const line = text.slice(0, end).replace('\xff', '');
          text = text.slice(end + 1);
          const reply = answer(JSON.parse(line) as Record<string, unknown>, socket);
          if (reply !== undefined) socket.write(`${JSON.stringify(reply)}\n`);
        }
      });
    });
    await new Promise<void>((resume) => server.listen(path, resume));
    return path;
  };

  const greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n';

  test('answers find their command, refusals and events their listener, whatever the order', async () => {
    const held: (() => void)[] = [];
    const path = await serve(greeting, ({ id, execute }, socket) => {
      if (execute === 'qmp_capabilities') return { return: {}, id };
      if (execute === 'slow') {
        held.push(() => socket.write(`${JSON.stringify({ return: 'slow', id })}\n`));
        return undefined;
      }
      held[0]!();
      socket.write('{"event": "JOB_STATUS_CHANGE", "data": {"id": "j"}}\n');
      return { error: { class: 'GenericError', desc: 'not today' }, id };
    });
    const client = await QmpClient.connect(path, 20_000, () => true);
    const event = client.nextEvent(({ data }) => data['id'] === 'j', 20_000, 'the job');
    const slow = client.execute('slow');
    await expect(client.execute('bad')).rejects.toMatchObject({ code: 'QEMU_REFUSED', description: 'not today' });
    expect(await slow).toBe('slow');
    expect((await event).event).toBe('JOB_STATUS_CHANGE');
    client.close();
    await expect(client.execute('late')).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
  });

  test('a monitor that has another client, stays silent, or goes away is told as such', async () => {
    const path = await serve('', () => undefined);
    await expect(QmpClient.connect(path, 200, () => true)).rejects.toMatchObject({ code: 'HOST_DOWN' });
    await expect(QmpClient.connect(join(directory, 'none'), 60, () => true)).rejects.toMatchObject({ code: 'HOST_DOWN' });
    await expect(QmpClient.connect(join(directory, 'none'), 20_000, () => false)).rejects.toMatchObject({ code: 'QEMU_REFUSED' });
  });

  test('commands end by time-out and by the end of qemu', async () => {
    const path = await serve(greeting, ({ id, execute }, socket) => {
      if (execute === 'quit') socket.destroy();
      return execute === 'qmp_capabilities' ? { return: {}, id } : undefined;
    });
    const client = await QmpClient.connect(path, 20_000, () => true);
    const closed = new Promise<void>((resume) => client.onClose(resume));
    await expect(client.execute('silence', {}, 50)).rejects.toMatchObject({ code: 'HOST_DOWN' });
    await expect(client.execute('quit')).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
    await closed;
  });

  test('the agent conversation skips what an earlier one left in the channel', async () => {
    const path = await serve('{"return": "stale"}\n{"return": 1', ({ execute, arguments: args }, socket) => {
      if (execute !== 'guest-sync-delimited') return { return: 3 };
      socket.write('}\n{"return": 12}\n');
      socket.write(Buffer.concat([Buffer.from([0xff]), Buffer.from(`{"return": ${String((args as { id: number }).id)}}\n`)]));
      return undefined;
    });
    expect(await guestAgentCall<number>(path, 'guest-fsfreeze-freeze', 20_000)).toBe(3);
  });

  test('an agent that refuses, or is not there, fails the freeze', async () => {
    const path = await serve('', ({ execute, arguments: args }, socket) => {
      if (execute !== 'guest-sync-delimited') return { error: { desc: 'fsfreeze hook failed' } };
      socket.write(Buffer.concat([Buffer.from([0xff]), Buffer.from(`{"return": ${String((args as { id: number }).id)}}\n`)]));
      return undefined;
    });
    await expect(guestAgentCall(path, 'guest-fsfreeze-freeze', 20_000)).rejects.toMatchObject({ code: 'FREEZE_FAILED' });
    await expect(guestAgentCall(join(directory, 'none'), 'guest-ping', 20_000)).rejects.toMatchObject({ code: 'VM_NOT_RUNNING' });
  });
});
