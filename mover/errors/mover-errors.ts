import { defineErrors } from '../../common/errors/define-errors';

/** Errors of repositories and what lies in them. */
export const RepositoryErrors = defineErrors({
  REPOSITORY_NOT_FOUND: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'NOT_FOUND',
    message: (m: { repository: string; because?: string }) =>
      m.because === undefined
        ? `No repository "${m.repository}" is here. Check the location, or attach the repository first.`
        : `No repository "${m.repository}" is here: ${m.because}.`,
  },
  REPOSITORY_EXISTS: {
    kind: 'failure',
    retry: 'never',
    status: 'ALREADY_EXISTS',
    message: (m: { repositoryId: string }) =>
      `The location holds repository ${m.repositoryId} already. Attach it instead of making a new one.`,
  },
  REPOSITORY_LOCATION_INVALID: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; location: string; problem: string }) => `${m.location} cannot hold a repository: ${m.problem}.`,
  },
  REPOSITORY_LOCATION_NOT_EMPTY: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { location: string }) => `${m.location} is not empty and holds no repository. Choose an empty folder.`,
  },
  REPOSITORY_HEADER_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { problem: string }) =>
      `The repository's header cannot be read (${m.problem}). Put back a copy of the file "tidemark-repository"; see docs/operations.`,
  },
  REPOSITORY_FORMAT_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'UNIMPLEMENTED',
    message: (m: { object: string; version: number }) =>
      `${m.object} has format version ${m.version}, which this version of Tidemark does not know. Upgrade the mover.`,
  },
  REPOSITORY_LOCKED: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { holder: string }) =>
      `A mover with the same data folder is at work on ${m.holder}, or was a moment ago: this one before an outage of its storage, say. Its lease ends by itself within a minute. If the data folder was copied, empty the copy and enrol it as a mover of its own.`,
  },
  REPOSITORY_LOCK_LOST: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { repositoryId: string }) =>
      `This mover lost its lock on repository ${m.repositoryId}, probably because its storage hung. It stopped writing and will attach again.`,
  },
  MAINTENANCE_BUSY: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: (m: { holder: string }) =>
      `The mover on ${m.holder} maintains the repository now. Its lease ends by itself when that mover is gone.`,
  },
  MAINTENANCE_LOST: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'ABORTED',
    message: () => 'This mover lost its maintenance lease, probably because its storage hung. It stopped; the next maintenance goes on.',
  },
  REPOSITORY_IN_USE: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { repositoryId: string; openSessions: number }) =>
      `Repository ${m.repositoryId} has ${m.openSessions} open sessions. Wait for them or stop them first.`,
  },
  REPOSITORY_FULL: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { what: string; freeBytes?: number; neededBytes?: number }) =>
      `The repository has no space left (${m.what}). Free some space or remove old points; nothing was lost.`,
  },
  REPOSITORY_IO: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { what: string; reason: string }) =>
      `The repository's storage failed (${m.what}: ${m.reason}). Check the device or the mount.`,
  },
  REPOSITORY_ACCESS_DENIED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'PERMISSION_DENIED',
    message: (m: { location: string; what: string; reason: string }) =>
      `${m.location} does not let us do what is needed (${m.what}: ${m.reason}). Give the access key, or the user, the rights to list, read, write and delete there.`,
  },
  REPOSITORY_ACCESS_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; location: string }) =>
      `${m.location} asks for an access key, or user name and password. Give them with --access-key-file.`,
  },
  OBJECT_NOT_FOUND: {
    kind: 'operational',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { object: string }) => `${m.object} is missing in the repository.`,
  },
  OBJECT_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { object: string; problem: string }) => `${m.object} is damaged: ${m.problem}.`,
  },
  POINT_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { pointId: string; diskId?: string }) =>
      `There is no restore point ${m.pointId}${m.diskId === undefined ? '' : ` with disk ${m.diskId}`} in the repository.`,
  },
  MANIFEST_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { pointId: string; problem: string }) =>
      `The manifest of restore point ${m.pointId} is damaged (${m.problem}). Verify the repository and use another point.`,
  },
  PACK_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { pack: string; problem: string }) => `Pack ${m.pack} is damaged: ${m.problem}.`,
  },
  INDEX_PAGE_DAMAGED: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { digest: string; problem: string }) => `Index page ${m.digest} is damaged: ${m.problem}. Verify the repository.`,
  },
});

/** Errors of blocks and of the data port; the codes of docs/protocol/data-mover.md §8. */
export const BlockErrors = defineErrors({
  BLOCK_CORRUPT: {
    kind: 'failure',
    retry: 'same-request',
    status: 'DATA_LOSS',
    message: (m: { digest: string; problem: string }) => `Block ${m.digest} is not what it claims to be: ${m.problem}.`,
  },
  BLOCK_MISSING: {
    kind: 'failure',
    retry: 'never',
    status: 'DATA_LOSS',
    message: (m: { digest: string; problem: string }) => `Block ${m.digest} cannot be read: ${m.problem}. Verify the repository.`,
  },
  BLOCK_OUT_OF_RANGE: {
    kind: 'bug',
    retry: 'never',
    status: 'OUT_OF_RANGE',
    message: (m: { block: number; blocks: number }) => `Block ${m.block} lies beyond the disk's ${m.blocks} blocks.`,
  },
});

/** Errors of sessions and their disks. */
export const SessionErrors = defineErrors({
  SESSION_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { sessionId: string }) => `Session ${m.sessionId} is not open on this mover.`,
  },
  SESSION_ENDED: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { sessionId: string; state: string }) => `Session ${m.sessionId} has ended (${m.state}). Open a new one.`,
  },
  SESSION_ELSEWHERE: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { sessionId: string }) =>
      `Session ${m.sessionId} belongs to another mover of the repository now. Go on there; nothing was lost.`,
  },
  SESSION_DISK_INCOMPLETE: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { sessionId: string; diskId: string; problem: string }) =>
      `Disk ${m.diskId} of session ${m.sessionId} cannot be part of a point: ${m.problem}.`,
  },
  DISK_MISMATCH: {
    kind: 'bug',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { diskId: string; problem: string }) => `Disk ${m.diskId}: ${m.problem}.`,
  },
  DISK_NOT_OPEN: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { handle: number }) => `Handle ${m.handle} is not open on this connection. Open the disk and send it again.`,
  },
});

/** Errors of the data port's protocol. */
export const DataPortErrors = defineErrors({
  FRAME_MALFORMED: {
    kind: 'bug',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { problem: string }) => `The peer does not speak the Data Mover protocol: ${m.problem}.`,
  },
  FRAME_UNEXPECTED: {
    kind: 'bug',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { problem: string }) => `A frame came out of order: ${m.problem}.`,
  },
  PROTOCOL_VERSION_UNSUPPORTED: {
    kind: 'failure',
    retry: 'never',
    status: 'UNIMPLEMENTED',
    message: (m: { version: number; supported: number }) =>
      `The worker speaks Data Mover protocol ${m.version}, this mover ${m.supported}. Upgrade the older side.`,
  },
  TICKET_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'UNAUTHENTICATED',
    message: (m: { problem: string }) => `The data ticket is not valid: ${m.problem}.`,
  },
  TICKET_EXPIRED: {
    kind: 'failure',
    retry: 'fresh-ticket',
    status: 'UNAUTHENTICATED',
    message: () => 'The data ticket is too old. Ask for a fresh one.',
  },
  TICKET_RIGHT_MISSING: {
    kind: 'failure',
    retry: 'never',
    status: 'PERMISSION_DENIED',
    message: (m: { right: string }) => `The data ticket does not allow this (${m.right}).`,
  },
  TOO_MANY_CONNECTIONS: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { limit: number }) => `There are ${m.limit} connections already. Try again later.`,
  },
  PROBE_LIMIT_REACHED: {
    kind: 'failure',
    retry: 'never',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { limitBytes: number }) => `One connection may send ${m.limitBytes} bytes to measure the way, and these are sent.`,
  },
  MOVER_STOPPING: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { sessionId: string }) =>
      `The data mover stops. Session ${m.sessionId} stays open on its disk; connect again when the mover is back.`,
  },
  CONNECTION_IDLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { seconds: number }) => `Nothing whole arrived for ${m.seconds} s; the connection is closed. Open another one.`,
  },
});
