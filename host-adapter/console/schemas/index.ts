/**
 * The shapes of the public REST API, one source for validation, for OpenAPI and for the command line's types. Bytes and milliseconds are
 * numbers, times ISO 8601 in UTC, what is absent is null. Owns no behaviour; the routes that use the shapes are in ../routes.
 */
import { ConfigurationCopy, RemovedPoint } from './maintenance';
import { Certificate } from './certificates';
import { list, page } from './common';
import { AuditEntry, Event } from './events';
import { Platform, PreflightVerdict, Vm } from './inventory';
import { Job } from './jobs';
import { Mover } from './movers';
import { Plugin } from './processes';
import { Point, Repository } from './repositories';
import { Session } from './sessions';
import { OrphanWorker, Worker, WorkerImage } from './workers';

export { Paging, Problem } from './common';
export * from './certificates';
export * from './events';
export * from './inventory';
export * from './jobs';
export * from './maintenance';
export * from './movers';
export * from './processes';
export * from './repositories';
export * from './restores';
export * from './server';
export * from './sessions';
export * from './workers';

export const Lists = {
  plugins: list(Plugin),
  movers: list(Mover),
  workers: list(Worker),
  orphanWorkers: list(OrphanWorker),
  workerImages: list(WorkerImage),
  platforms: list(Platform),
  vms: page(Vm),
  verdicts: list(PreflightVerdict),
  repositories: list(Repository),
  points: page(Point),
  jobs: list(Job),
  jobPreview: list(Vm),
  sessions: page(Session),
  events: page(Event),
  audit: page(AuditEntry),
  certificates: list(Certificate),
  removedPoints: list(RemovedPoint),
  configurationCopies: list(ConfigurationCopy),
};
