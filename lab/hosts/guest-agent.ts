import { randomInt } from 'node:crypto';
import { HostError } from './driver';
import { tryConnect } from './qmp';

/**
 * One conversation with the guest agent of a VM over its virtio-serial socket. The agent may hold half a line of an earlier client,
 * so a conversation begins with 0xFF and `guest-sync-delimited`; what precedes the answer's 0xFF is stale.
 */
export async function guestAgentCall<T>(socketPath: string, command: string, timeoutMs: number): Promise<T> {
  const socket = await tryConnect(socketPath);
  if (socket === undefined) throw new HostError('VM_NOT_RUNNING', 'The VM has no guest agent channel.');
  try {
    return await new Promise<T>((resolve, reject) => {
      const syncId = randomInt(1, 2 ** 31);
      let received: Buffer = Buffer.alloc(0);
      let synced = false;
      const timer = setTimeout(() => reject(new HostError('FREEZE_FAILED', `The guest agent did not answer ${command}.`)), timeoutMs);
      const done = (finish: () => void): void => {
        clearTimeout(timer);
        finish();
      };
      socket.on('data', (chunk: Buffer) => {
        received = Buffer.concat([received, chunk]);
        if (received.length > 1_048_576) done(() => reject(new HostError('FREEZE_FAILED', 'The guest agent talks nonsense.')));
        for (;;) {
          if (!synced) {
            const mark = received.indexOf(0xff);
            if (mark < 0) return;
            received = received.subarray(mark + 1);
          }
          const end = received.indexOf(0x0a);
          if (end < 0) {
            // The mark is consumed only together with its line.
            if (!synced) received = Buffer.concat([Buffer.from([0xff]), received]);
            return;
          }
          const line = received.subarray(0, end).toString('utf8');
          received = received.subarray(end + 1);
          const answer = parse(line);
          if (answer === undefined) continue;
          if (!synced) {
            if (answer['return'] !== syncId) continue;
            synced = true;
            socket.write(`${JSON.stringify({ execute: command })}\n`);
          } else if ('error' in answer) {
            const description = (answer['error'] as { desc?: string }).desc ?? 'unknown error';
            done(() => reject(new HostError('FREEZE_FAILED', `The guest agent refused ${command}: ${description}`)));
            return;
          } else {
            done(() => resolve(answer['return'] as T));
            return;
          }
        }
      });
      socket.on('error', (cause) => done(() => reject(new HostError('VM_NOT_RUNNING', 'The guest agent channel broke.', { cause }))));
      socket.on('close', () => done(() => reject(new HostError('VM_NOT_RUNNING', 'The guest agent channel closed.'))));
      socket.write(
        Buffer.concat([
          Buffer.from([0xff]),
          Buffer.from(`${JSON.stringify({ execute: 'guest-sync-delimited', arguments: { id: syncId } })}\n`),
        ]),
      );
    });
  } finally {
    socket.destroy();
  }
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
