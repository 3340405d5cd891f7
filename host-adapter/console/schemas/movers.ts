/** Movers, gateways, and the way of a session. */
import { z } from 'zod';
import { named, optionalTime, reference } from './common';
import { EnrolmentToken, EnrolmentTokenRequest, processFields } from './processes';

export const MoverTokenRequest = EnrolmentTokenRequest.extend({
  /** The mover is to carry data to repositories that cannot run one. */
  gateway: z.boolean().default(false),
});
export const MoverToken = EnrolmentToken.extend({
  /** The mover's id, from now on. */
  moverId: z.string(),
  /** Where the mover registers. */
  controlEndpoint: z.string(),
});
export const Mover = named(
  'Mover',
  z.object({
    ...processFields,
    controlEndpoint: z.string(),
    dataEndpoints: z.array(z.string()),
    /** Carries data to repositories that cannot run a mover. */
    gateway: z.boolean(),
    /** Since when it takes no new sessions; null: it takes them. */
    drainingSince: optionalTime,
    /** Sessions of running tasks that it carries. */
    openSessionCount: z.int(),
    /** Names of the repositories that it may serve. */
    repositories: z.array(z.string()),
  }),
);
export const MoverQuery = z.object({ gateway: z.stringbool().optional() });
export const MoverChange = z.object({ gateway: z.boolean() });

export const TaskPath = named(
  'TaskPath',
  z.object({
    moverId: z.string(),
    moverName: z.string(),
    /** repository-mover, gateway-only, gateway-reach, gateway-load, gateway-preferred, gateway-affinity or gateway-equal. */
    reason: z.string(),
    message: z.string(),
    /** Names of the movers that had the session before, oldest first. */
    before: z.array(z.string()),
  }),
);
export const RepositoryPathQuery = z.object({
  /** For a session of this VM, by id or name: what its cluster's workers reach counts then. */
  vm: reference.optional(),
});
export const RepositoryPath = named(
  'RepositoryPath',
  z.object({
    /** Null: no mover can be used now. */
    moverId: z.string().nullable(),
    moverName: z.string().nullable(),
    /** Why this one, or what a task would wait for; gateway-missing: nobody may serve it. */
    reason: z.string(),
    message: z.string(),
    passed: z.array(z.object({ moverId: z.string(), moverName: z.string(), why: z.string() })),
  }),
);
