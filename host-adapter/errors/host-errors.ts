/** Errors of the host side. Codes are listed in docs/errors.md. */
import { defineErrors } from '../../common/errors/define-errors';

export const HostErrors = defineErrors({
  // identity
  ENROLMENT_THROTTLED: {
    kind: 'operational',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: () => 'Too many enrolment attempts from this address. Wait a minute, then try again.',
  },
  CA_ROTATION_RUNNING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { startedAt: string; overlapEndsAt: string }) =>
      `The CA that was made on ${m.startedAt} has not replaced the old one everywhere yet ("tidemark cert list" shows who is missing). Wait for that; it ends on ${m.overlapEndsAt} at the latest.`,
  },
  IDENTITY_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { id: string }) => `No plug-in, mover or worker has the id ${m.id}. "tidemark cert list --json" shows them.`,
  },
  PLUGIN_INSTANCE_TAKEN: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'ALREADY_EXISTS',
    message: (m: { instanceId: string; id: string }) =>
      `Instance ${m.instanceId} is enrolled under another identity, ${m.id}. If the data folder was copied, remove "instance-id" in the copy; if it is the same plug-in, enrol it under that identity: "tidemark plugin enrol --again ${m.id}".`,
  },
  EVENT_SEQUENCE_GAP: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { expected: number; found: number }) => `Event ${m.found} came, ${m.expected} was expected. Send from there.`,
  },
  LOGIN_REFUSED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: () => 'User or password is wrong.',
  },
  LOGIN_THROTTLED: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'RESOURCE_EXHAUSTED',
    message: () => 'Too many wrong logins. Wait a minute, then try again.',
  },
  LOGIN_REQUIRED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'UNAUTHENTICATED',
    message: () => 'Log in first ("tidemark login"); the login is missing or over.',
  },
  // registry
  PLUGIN_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { plugin: string }) => `There is no plug-in "${m.plugin}". "tidemark plugin list" shows them.`,
  },
  PLUGIN_DISABLED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { plugin: string }) => `Plug-in ${m.plugin} is not enabled. Run "tidemark plugin enable ${m.plugin}".`,
  },
  PLUGIN_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { plugin: string }) => `Plug-in ${m.plugin} is not connected. Check that it runs and reaches this server.`,
  },
  PLUGIN_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { count: number }) => `There are ${m.count} plug-ins that could be meant. Name one.`,
  },
  MOVER_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { mover: string }) => `There is no mover "${m.mover}". "tidemark mover list" shows them.`,
  },
  MOVER_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { mover: string }) => `Mover ${m.mover} is not connected. Check that it runs and reaches this server.`,
  },
  MOVER_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { count: number }) => `There are ${m.count} movers that could be meant. Name one.`,
  },
  // inventory and repositories, as the console names them
  NAME_TAKEN: {
    kind: 'failure',
    retry: 'never',
    status: 'ALREADY_EXISTS',
    message: (m: { what: string; name: string }) => `There is a ${m.what} named "${m.name}" already. Choose another name.`,
  },
  IN_USE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { what: string; usedBy: string }) => `${m.what} is used by ${m.usedBy}. Remove or change that first.`,
  },
  PLATFORM_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { platform: string }) => `There is no platform "${m.platform}". "tidemark platform list" shows them.`,
  },
  PLATFORM_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { count: number }) => `There are ${m.count} platforms that could be meant. Name one.`,
  },
  VM_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { vm: string }) =>
      `There is no VM "${m.vm}". "tidemark vm list" shows them; "tidemark platform rescan" reads them afresh.`,
  },
  REPOSITORY_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { repository: string }) => `There is no repository "${m.repository}". "tidemark repository list" shows them.`,
  },
  POINT_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { point: string }) => `There is no restore point "${m.point}". "tidemark point list" shows them.`,
  },
  WORKER_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { worker: string }) => `There is no worker "${m.worker}". "tidemark worker list" shows them.`,
  },
  WORKER_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { worker: string; count: number }) => `"${m.worker}" names ${m.count} workers. Use the id.`,
  },
  WORKER_BESIDE_SERVER: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { worker: string }) =>
      `Worker ${m.worker} is no VM that Tidemark deployed: it runs beside the server. Stop or replace it by its own service.`,
  },
  WORKER_TEST_FAILED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { worker: string; cells: number }) =>
      `The self-test of ${m.worker} failed in ${m.cells} places. Each is a note of the session and says what to open or fix.`,
  },
  VM_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { vm: string; count: number }) => `"${m.vm}" names ${m.count} VMs. Use the id.`,
  },
  TARGET_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { field: string; name: string }) => `There is no ${m.field} "${m.name}" on the target platform.`,
  },
  TARGET_AMBIGUOUS: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { field: string; name: string; count: number }) =>
      `"${m.name}" names ${m.count} of ${m.field}. Use the id, or network/profile for a vNIC profile.`,
  },
  POINT_DISK_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { disk: string; pointId: string }) => `Point ${m.pointId} has no disk "${m.disk}".`,
  },
  POINT_UNUSABLE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'DATA_LOSS',
    message: (m: { pointId: string }) => `Point ${m.pointId} is damaged. Verify the repository and choose another point.`,
  },
  REPOSITORY_UNAVAILABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { repository: string; reason: string }) => `Repository ${m.repository} cannot be used now (${m.reason}).`,
  },
  DATA_PATH_UNAVAILABLE: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { repository: string; reason: string; text: string }) =>
      `Repository ${m.repository} cannot be reached now (${m.reason}). ${m.text} Check those movers, or add a gateway with "tidemark gateway enrol".`,
  },
  GATEWAY_MISSING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { repository: string }) =>
      `No mover may carry data to repository ${m.repository}: its gateways were removed, or none was ever there. Add one with "tidemark gateway enrol".`,
  },
  REPOSITORY_KEY_OF_SERVER: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { slotId: string }) =>
      `Key ${m.slotId} is the server's own: with it gateways open the repository. It goes with the repository ("tidemark repository remove").`,
  },
  BASE_POINT_DAMAGED: {
    kind: 'operational',
    retry: 'full-backup',
    status: 'DATA_LOSS',
    message: (m: { code: string; pointId: string }) =>
      `The restore point that the backup builds on is damaged (${m.code}, point ${m.pointId}). Everything is read again now; verify the repository.`,
  },
  // jobs and sessions
  JOB_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { job: string }) => `There is no job "${m.job}".`,
  },
  JOB_SELECTS_NOTHING: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { job: string }) => `Job ${m.job} selects no VM. Check its selector with "tidemark job show ${m.job}".`,
  },
  JOB_ALREADY_RUNNING: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { job: string; sessionId: string }) => `Job ${m.job} runs already (session ${m.sessionId}).`,
  },
  BACKUP_SESSION_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { session: string }) => `There is no session "${m.session}".`,
  },
  SESSION_RUNNING: {
    kind: 'failure',
    retry: 'after-delay',
    status: 'FAILED_PRECONDITION',
    message: (m: { session: string }) => `Session ${m.session} still runs. Stop it first, or wait.`,
  },
  SESSION_NOTHING_TO_RETRY: {
    kind: 'failure',
    retry: 'never',
    status: 'FAILED_PRECONDITION',
    message: (m: { session: string }) => `Everything in session ${m.session} succeeded.`,
  },
  SELECTOR_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; expression: string; problem: string }) =>
      `The expression "${m.expression}" cannot be read: ${m.problem}. Example: tag:prod and not name:test*`,
  },
  SCHEDULE_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; cron: string; problem: string }) =>
      `The schedule "${m.cron}" cannot be read: ${m.problem}. Example: 0 22 * * 1-5`,
  },
  OPERATION_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { operationId: string }) => `The plug-in lost operation ${m.operationId}; its janitor cleans up. It is run again.`,
  },
  OPERATION_STOPPED: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { operationId: string }) => `Operation ${m.operationId} was stopped on the plug-in's side, most likely by its restart.`,
  },
  MOVER_SESSION_LOST: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { sessionId: string }) => `The mover ended session ${m.sessionId} before it was committed.`,
  },
  WAITED_TOO_LONG: {
    kind: 'operational',
    retry: 'same-request',
    status: 'UNAVAILABLE',
    message: (m: { reason: string; waitedMs: number }) =>
      `Waited ${Math.round(Number(m.waitedMs) / 1000)} s (${m.reason}); the condition did not pass.`,
  },
  VM_NOT_PROTECTABLE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { code: string; text: string }) => `The VM cannot be backed up (${m.code}): ${m.text}`,
  },
  VERIFY_FOUND_DAMAGE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'DATA_LOSS',
    message: (m: { findings: number; hurt: string }) =>
      `Verification found ${m.findings} damaged objects${m.hurt === '' ? ', which hurt no restore point that is known' : `: ${m.hurt}`}. The session lists them all; docs/operations/verify.md says what to do.`,
  },
  STATE_TRANSITION_INVALID: {
    kind: 'bug',
    retry: 'never',
    status: 'INTERNAL',
    message: (m: { from: string; to: string }) => `A task cannot go from ${m.from} to ${m.to}.`,
  },
  // supervision
  CHILD_NOT_READY: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'UNAVAILABLE',
    message: (m: { child: string; log: string }) => `The ${m.child} did not come up. Its log says why: ${m.log}`,
  },
  PORT_UNAVAILABLE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { address: string; why: string }) => `Cannot listen on ${m.address} (${m.why}). Choose another port in the configuration.`,
  },
  CATALOGUE_UNUSABLE: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { file: string; why: string }) => `The catalogue ${m.file} cannot be opened (${m.why}).`,
  },
});
