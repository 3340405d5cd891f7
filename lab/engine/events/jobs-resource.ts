import { randomUUID } from 'node:crypto';
import type { ApiObject } from '../http/api-object';
import { flagOf, textOf } from '../http/api-object';
import { badRequest, incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { created, done, list, ok } from '../http/reply';
import { found, param } from '../http/request-context';
import type { Routes } from '../http/route';
import { applySearch } from '../http/search';
import type { Core } from '../model/core';
import type { Job, JobStep } from '../model/entities';

/** `/jobs`: what the engine works on, found by correlation id (which the body does not show), and jobs of clients. */
export function registerJobs(routes: Routes, core: Core): void {
  const { db } = core;
  const one = (id: string): Job => found(core.jobs.list().find((job) => job.id === id));
  routes.add('GET', '/jobs', (context) =>
    list('job', applySearch(context, core.jobs.list(), { correlation_id: (job) => job.correlationId }).map(jobView)),
  );
  routes.add('GET', '/jobs/:id', (context) => ok('job', jobView(one(param(context, 'id')))));
  routes.add('GET', '/jobs/:id/steps', (context) => {
    const job = one(param(context, 'id'));
    return list(
      'step',
      job.steps.map((step) => stepView(job, step)),
    );
  });
  routes.add(
    'POST',
    '/jobs',
    (context) => {
      context.permits('INJECT_EXTERNAL_TASKS');
      const description = textOf(context.body, 'description');
      if (description === undefined) {
        throw incomplete('Job', ['description'], 'add');
      }
      return created('job', jobView(core.jobs.start(description, context, true, flagOf(context.body, 'auto_cleared') ?? true)));
    },
    { body: 'job' },
  );
  routes.add(
    'POST',
    '/jobs/:id/steps',
    (context) => {
      context.permits('INJECT_EXTERNAL_TASKS');
      const job = one(param(context, 'id'));
      const description = textOf(context.body, 'description');
      if (description === undefined) {
        throw incomplete('Step', ['description'], 'add');
      }
      const step: JobStep = { id: randomUUID(), description, status: 'started', startTime: core.clock.now() };
      db.jobs.update(job.id, { steps: [...job.steps, step], lastUpdated: core.clock.now() });
      return created('step', stepView(job, step));
    },
    { body: 'step' },
  );
  routes.add(
    'POST',
    '/jobs/:id/end',
    (context) => {
      context.permits('INJECT_EXTERNAL_TASKS');
      const job = one(param(context, 'id'));
      if (!job.external) {
        throw badRequest('JOB_NOT_EXTERNAL', 'Cannot end Job. It is not an external job.');
      }
      core.jobs.end(job.id, flagOf(context.body, 'succeeded') ?? true);
      return done();
    },
    { body: 'action' },
  );
}

const jobView = (job: Job): ApiObject => ({
  href: hrefOf('jobs', job.id),
  id: job.id,
  description: job.description,
  status: job.status,
  start_time: job.startTime,
  end_time: job.endTime,
  last_updated: job.lastUpdated,
  external: job.external,
  auto_cleared: job.autoCleared,
  owner: refOf('users', job.ownerId),
});

const stepView = (job: Job, step: JobStep): ApiObject => ({
  href: hrefOf('jobs', job.id, 'steps', step.id),
  id: step.id,
  description: step.description,
  status: step.status,
  start_time: step.startTime,
  end_time: step.endTime,
  job: refOf('jobs', job.id),
});
