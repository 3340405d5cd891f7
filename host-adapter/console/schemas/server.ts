/** Login, health and settings. */
import { z } from 'zod';
import { named, time } from './common';

export const LoginRequest = z.object({ user: z.string().min(1).max(64), password: z.string().min(1).max(1024) });
export const LoginReply = z.object({ token: z.string(), user: z.string(), expiresAt: time });
export const PasswordRequest = z.object({ currentPassword: z.string().max(1024), newPassword: z.string().min(12).max(1024) });
export const Health = z.object({ status: z.enum(['ok', 'starting', 'degraded']), version: z.string() });
export const Check = named('Check', z.object({ check: z.string(), passed: z.boolean(), message: z.string(), advice: z.string() }));
export const Doctor = z.object({ passed: z.boolean(), checks: z.array(Check) });
export const Settings = named(
  'Settings',
  z.object({
    /** VMs that one repository takes at a time, over all jobs. */
    repositoryTasks: z.int().min(1).max(256),
    /** Tries of one VM in one session. */
    retryAttempts: z.int().min(1).max(10),
    /** Pause before the second, third … try. */
    retryDelaysMs: z.array(z.int().min(0).max(86_400_000)).min(1).max(10),
    /** How long a task waits for something outside (mover, plug-in, a locked disk) before the try counts as failed. */
    waitLimitMs: z.int().min(1000).max(86_400_000),
    /** Life of a login. */
    loginLifetimeMs: z.int().min(60_000),
    /** When the configuration is copied into every repository: cron, in the server's time zone. */
    configurationCopySchedule: z.string().min(1).max(255),
    /** When space is given back. */
    collectSchedule: z.string().min(1).max(255),
    /** Bytes that a scheduled collection reads and writes per second at most; 0: no limit. */
    collectBytesPerSecond: z.int().min(0),
    /** Every repository is verified once per so many days; 0: only when somebody asks. */
    verifyPeriodDays: z.int().min(0).max(3650),
    /** Bytes that a scheduled verification reads per second at most; 0: no limit. */
    verifyBytesPerSecond: z.int().min(0),
  }),
);
export const Config = named(
  'Config',
  z.object({
    version: z.string(),
    settings: Settings,
    caFingerprint: z.string(),
    endpoints: z.object({ console: z.string(), control: z.string(), enrolment: z.string() }),
  }),
);
export const SettingsChange = Settings.partial();
