/**
 * What a worker of version 0.1.0 says, byte for byte, recorded from the contract of that version (before self-tests, trust updates, log
 * lines and attached disks). Never rewritten: workers of that version are out there. The task's id is a placeholder of the same length.
 */
import { Client, Metadata } from '@grpc/grpc-js';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { RenewableCredentials } from '../../common/rpc/renewable-channel';

const recordedTaskId = '00000000-0000-4000-8000-000000000000';

/** ConnectRequest messages, base64. */
const recording = {
  hello:
    'Cq4BCqUBCiQ2YTdkNTRiNC03YTBlLTRkMjUtOWM3ZS00YjZhOGYxYjdjMTESJDBkMGYyZDZlLTNmMGEtNGU3Yi04YTY1LTU4YThmMGM0YzlkMhoFMC4xLjAiEnRpZGVtYXJrLndvcmtlci52MSoLZGlzay1iYWNrdXAqDGRpc2stcmVzdG9yZSoMZmlsZS1yZXN0b3JlMhN3b3JrZXItb2YteWVzdGVyZGF5EAQaACIA',
  heartbeat: 'EgUIlZrvOg==',
  progress: 'GjsKJDAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMBIQCIAgEIAIGIAEIIACKAAwABiAQA==',
  result: 'Ik8KJDAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwMDAwMBoRCIAgEIAgGIAQIIAIKIAgMAAgASoAMhAAESIzRFVmd4iZqrvM3e7/',
  helloAgain:
    'CtQBCqUBCiQ2YTdkNTRiNC03YTBlLTRkMjUtOWM3ZS00YjZhOGYxYjdjMTESJDBkMGYyZDZlLTNmMGEtNGU3Yi04YTY1LTU4YThmMGM0YzlkMhoFMC4xLjAiEnRpZGVtYXJrLndvcmtlci52MSoLZGlzay1iYWNrdXAqDGRpc2stcmVzdG9yZSoMZmlsZS1yZXN0b3JlMhN3b3JrZXItb2YteWVzdGVyZGF5EAQaACIAMiQwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDA=',
} as const;

/** Fields of ConnectResponse that version 0.1.0 knows: Welcome, Heartbeat, StartTask, CancelTask, Drain, ResultStored. */
export const knownReplies = [1, 2, 3, 4, 5, 6];

/** A worker of version 0.1.0 on a real connection, without any code that knows the present contract. */
export class RecordedWorker {
  /** Replies as they came. */
  readonly replies: Buffer[] = [];
  readonly #client: Client;
  #stream: ClientDuplexStream<Buffer, Buffer> | undefined;

  constructor(endpoint: string, credentials: RenewableCredentials) {
    this.#client = new Client(endpoint, credentials.channel);
  }

  dial(): void {
    const asIs = (bytes: Buffer) => bytes;
    const path = '/tidemark.worker.v1.WorkerService/Connect';
    const stream = this.#client.makeBidiStreamRequest<Buffer, Buffer>(path, asIs, asIs, new Metadata());
    stream.on('data', (reply: Buffer) => this.replies.push(reply));
    stream.on('error', () => undefined);
    this.#stream = stream;
  }

  say(message: keyof typeof recording, taskId = recordedTaskId): void {
    const bytes = Buffer.from(recording[message], 'base64').toString('latin1').replace(recordedTaskId, taskId);
    this.#stream?.write(Buffer.from(bytes, 'latin1'));
  }

  /** Numbers of the fields that came, in order. */
  get replyFields(): number[] {
    return this.replies.map((reply) => (reply[0] ?? 0) >> 3);
  }

  /** The connection breaks. */
  hangUp(): void {
    this.#stream?.cancel();
  }

  close(): void {
    this.hangUp();
    this.#client.close();
  }
}
