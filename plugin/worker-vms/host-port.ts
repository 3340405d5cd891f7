import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';

/** A mover or gateway and a way to it that allows nothing but a probe. */
export interface ProbePath {
  readonly moverId: string;
  /** For people. */
  readonly name: string;
  readonly dataPath: DataPath__Output | null;
}

/** What worker VMs need of the host; `plugin/host` has the line to it. All reject with PEER_UNAVAILABLE or DEADLINE_EXCEEDED while it is away. */
export interface WorkerHost {
  /** A one-time token that enrols a worker under this id. Secret. Idempotent per request id. Rejects with IDENTITY_REVOKED. */
  createWorkerToken(requestId: string, workerId: string, lifetimeMs: number): Promise<{ readonly token: string }>;
  /** The worker is gone for good. Idempotent. */
  revokeWorker(workerId: string): Promise<void>;
  createProbePaths(): Promise<readonly ProbePath[]>;
}
