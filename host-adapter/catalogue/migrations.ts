import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

/** Steps of the catalogue's schema, in the order of their names. A step that was released is never changed. */
export const migrations: Record<string, Migration> = {
  '0001-first': {
    async up(db: Kysely<unknown>): Promise<void> {
      const table = (name: string) => db.schema.createTable(name);
      await table('setting')
        .addColumn('name', 'text', (c) => c.primaryKey())
        .addColumn('valueJson', 'text', (c) => c.notNull())
        .execute();
      await table('user')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('name', 'text', (c) => c.notNull().unique())
        .addColumn('passwordHash', 'text', (c) => c.notNull())
        .addColumn('createdAt', 'text', (c) => c.notNull())
        .execute();
      await table('login')
        .addColumn('tokenHash', 'text', (c) => c.primaryKey())
        .addColumn('userId', 'text', (c) => c.notNull().references('user.id').onDelete('cascade'))
        .addColumn('createdAt', 'text', (c) => c.notNull())
        .addColumn('expiresAt', 'text', (c) => c.notNull())
        .execute();
      await table('enrolmentToken')
        .addColumn('tokenHash', 'text', (c) => c.primaryKey())
        .addColumn('role', 'text', (c) => c.notNull())
        .addColumn('subjectId', 'text', (c) => c.notNull())
        .addColumn('requestId', 'text', (c) => c.unique())
        .addColumn('createdAt', 'text', (c) => c.notNull())
        .addColumn('expiresAt', 'text', (c) => c.notNull())
        .addColumn('usedByRequest', 'text')
        .addColumn('certificateChainPem', 'text')
        .execute();
      await table('identity')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('role', 'text', (c) => c.notNull())
        .addColumn('enrolledThrough', 'text')
        .addColumn('instanceId', 'text', (c) => c.notNull())
        .addColumn('hostName', 'text', (c) => c.notNull())
        .addColumn('version', 'text', (c) => c.notNull())
        .addColumn('addressesJson', 'text', (c) => c.notNull())
        .addColumn('enrolledAt', 'text', (c) => c.notNull())
        .addColumn('enabled', 'integer', (c) => c.notNull())
        .addColumn('revokedAt', 'text')
        .execute();
      await table('plugin')
        .addColumn('id', 'text', (c) => c.primaryKey().references('identity.id'))
        .addColumn('instanceId', 'text', (c) => c.notNull().unique())
        .addColumn('pluginId', 'text', (c) => c.notNull())
        .addColumn('processJson', 'text', (c) => c.notNull())
        .addColumn('endpoint', 'text', (c) => c.notNull())
        .addColumn('workerEndpoint', 'text', (c) => c.notNull())
        .addColumn('workerEnrolmentEndpoint', 'text', (c) => c.notNull())
        .addColumn('leaseId', 'text', (c) => c.notNull())
        .addColumn('leaseExpiresAt', 'text', (c) => c.notNull())
        .addColumn('lastSeenAt', 'text', (c) => c.notNull())
        .addColumn('acknowledgedEvent', 'bigint', (c) => c.notNull())
        .execute();
      await table('mover')
        .addColumn('id', 'text', (c) => c.primaryKey().references('identity.id'))
        .addColumn('instanceId', 'text', (c) => c.notNull())
        .addColumn('processJson', 'text', (c) => c.notNull())
        .addColumn('controlEndpoint', 'text', (c) => c.notNull())
        .addColumn('dataEndpointsJson', 'text', (c) => c.notNull())
        .addColumn('leaseId', 'text', (c) => c.notNull())
        .addColumn('leaseExpiresAt', 'text', (c) => c.notNull())
        .addColumn('lastSeenAt', 'text', (c) => c.notNull())
        .execute();
      await table('platform')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('name', 'text', (c) => c.notNull().unique())
        .addColumn('pluginId', 'text', (c) => c.notNull())
        .execute();
      await table('repository')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('name', 'text', (c) => c.notNull().unique())
        .addColumn('location', 'text', (c) => c.notNull())
        .addColumn('moverId', 'text', (c) => c.notNull())
        .addColumn('lastKnownJson', 'text', (c) => c.notNull())
        .execute();
      await table('job')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('name', 'text', (c) => c.notNull().unique())
        .addColumn('repositoryId', 'text', (c) => c.notNull().references('repository.id'))
        .addColumn('enabled', 'integer', (c) => c.notNull())
        .addColumn('definitionJson', 'text', (c) => c.notNull())
        .addColumn('createdAt', 'text', (c) => c.notNull())
        .addColumn('scheduledAt', 'text', (c) => c.notNull())
        .execute();
      await table('session')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('kind', 'text', (c) => c.notNull())
        .addColumn('jobId', 'text')
        .addColumn('jobName', 'text', (c) => c.notNull())
        .addColumn('repositoryId', 'text', (c) => c.notNull())
        .addColumn('repositoryName', 'text', (c) => c.notNull())
        .addColumn('state', 'text', (c) => c.notNull())
        .addColumn('trigger', 'text', (c) => c.notNull())
        .addColumn('stopping', 'integer', (c) => c.notNull())
        .addColumn('requestJson', 'text', (c) => c.notNull())
        .addColumn('failureJson', 'text')
        .addColumn('sequence', 'bigint', (c) => c.notNull())
        .addColumn('startedAt', 'text', (c) => c.notNull())
        .addColumn('endedAt', 'text')
        .execute();
      await table('task')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('sessionId', 'text', (c) => c.notNull().references('session.id').onDelete('cascade'))
        .addColumn('ordinal', 'integer', (c) => c.notNull())
        .addColumn('platformId', 'text', (c) => c.notNull())
        .addColumn('vmId', 'text', (c) => c.notNull())
        .addColumn('vmName', 'text', (c) => c.notNull())
        .addColumn('state', 'text', (c) => c.notNull())
        .addColumn('step', 'text', (c) => c.notNull())
        .addColumn('sequence', 'bigint', (c) => c.notNull())
        .addColumn('recordJson', 'text', (c) => c.notNull())
        .execute();
      await table('vmLease')
        .addColumn('platformId', 'text', (c) => c.notNull())
        .addColumn('vmId', 'text', (c) => c.notNull())
        .addColumn('taskId', 'text', (c) => c.notNull())
        .addColumn('kind', 'text', (c) => c.notNull())
        .addPrimaryKeyConstraint('vmLeaseKey', ['platformId', 'vmId'])
        .execute();
      await table('point')
        .addColumn('repositoryId', 'text', (c) => c.notNull().references('repository.id').onDelete('cascade'))
        .addColumn('id', 'text', (c) => c.notNull())
        .addColumn('platformId', 'text', (c) => c.notNull())
        .addColumn('vmId', 'text', (c) => c.notNull())
        .addColumn('vmName', 'text', (c) => c.notNull())
        .addColumn('pointInTime', 'text', (c) => c.notNull())
        .addColumn('damaged', 'integer', (c) => c.notNull())
        .addColumn('pointJson', 'text', (c) => c.notNull())
        .addPrimaryKeyConstraint('pointKey', ['repositoryId', 'id'])
        .execute();
      for (const name of ['event', 'audit'] as const) {
        let made = table(name)
          .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
          .addColumn('at', 'text', (c) => c.notNull());
        made =
          name === 'event'
            ? made
                .addColumn('source', 'text', (c) => c.notNull())
                .addColumn('severity', 'text', (c) => c.notNull())
                .addColumn('code', 'text', (c) => c.notNull())
                .addColumn('message', 'text', (c) => c.notNull())
                .addColumn('referencesJson', 'text', (c) => c.notNull())
            : made
                .addColumn('user', 'text', (c) => c.notNull())
                .addColumn('action', 'text', (c) => c.notNull())
                .addColumn('target', 'text', (c) => c.notNull())
                .addColumn('status', 'integer', (c) => c.notNull())
                .addColumn('remoteAddress', 'text', (c) => c.notNull())
                .addColumn('correlationId', 'text', (c) => c.notNull());
        await made.execute();
      }
      await db.schema.createIndex('taskBySession').on('task').columns(['sessionId', 'sequence']).execute();
      await db.schema.createIndex('taskByState').on('task').column('state').execute();
      await db.schema.createIndex('taskByVm').on('task').columns(['platformId', 'vmId']).execute();
      await db.schema.createIndex('sessionByStart').on('session').column('startedAt').execute();
      await db.schema.createIndex('pointByVm').on('point').columns(['platformId', 'vmId', 'pointInTime']).execute();
      await db.schema.createIndex('pointByTime').on('point').column('pointInTime').execute();
    },
  },
  '0002-certificates': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .alterTable('identity')
        .addColumn('enrolsAtStart', 'integer', (c) => c.notNull().defaultTo(0))
        .execute();
      await db.schema
        .createTable('certificate')
        .addColumn('serialNumber', 'text', (c) => c.primaryKey())
        .addColumn('subjectId', 'text', (c) => c.notNull())
        .addColumn('role', 'text', (c) => c.notNull())
        .addColumn('issuerFingerprint', 'text', (c) => c.notNull())
        .addColumn('issuedAt', 'text', (c) => c.notNull())
        .addColumn('expiresAt', 'text', (c) => c.notNull())
        .execute();
      await db.schema
        .createTable('peerTrust')
        .addColumn('subjectId', 'text', (c) => c.primaryKey())
        .addColumn('trustedJson', 'text', (c) => c.notNull())
        .addColumn('issuerFingerprint', 'text', (c) => c.notNull())
        .addColumn('serialNumber', 'text', (c) => c.notNull())
        .addColumn('expiresAt', 'text', (c) => c.notNull())
        .addColumn('reportedAt', 'text', (c) => c.notNull())
        .execute();
      await db.schema
        .createTable('certificateWarning')
        .addColumn('certificate', 'text', (c) => c.notNull())
        .addColumn('days', 'integer', (c) => c.notNull())
        .addColumn('at', 'text', (c) => c.notNull())
        .addPrimaryKeyConstraint('certificateWarningKey', ['certificate', 'days'])
        .execute();
      await db.schema.createIndex('certificateBySubject').on('certificate').columns(['subjectId', 'issuedAt']).execute();
    },
  },
  '0003-gateways': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('repository').addColumn('gatewaysJson', 'text').execute();
      await db.schema.alterTable('repository').addColumn('sealedJson', 'text').execute();
      await db.schema
        .createTable('moverRule')
        .addColumn('id', 'text', (c) => c.primaryKey())
        .addColumn('gateway', 'integer')
        .addColumn('drainingSince', 'text')
        .execute();
    },
  },
  '0004-maintenance': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .createTable('repositoryCare')
        .addColumn('repositoryId', 'text', (c) => c.primaryKey().references('repository.id').onDelete('cascade'))
        .addColumn('copiedAt', 'text')
        .addColumn('copyTriedAt', 'text')
        .addColumn('copyFailureJson', 'text')
        .addColumn('collectedAt', 'text')
        .addColumn('collectTriedAt', 'text')
        .addColumn('collectFailureJson', 'text')
        .addColumn('verifiedAt', 'text')
        .addColumn('verifyTriedAt', 'text')
        .addColumn('verifyFailureJson', 'text')
        .execute();
      await db.schema
        .createTable('pointHold')
        .addColumn('pointId', 'text', (c) => c.primaryKey())
        .addColumn('repositoryId', 'text', (c) => c.notNull().references('repository.id').onDelete('cascade'))
        .addColumn('heldAt', 'text', (c) => c.notNull())
        .addColumn('heldBy', 'text', (c) => c.notNull())
        .execute();
    },
  },
  '0005-preferred-gateways': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('repository').addColumn('preferredGatewaysJson', 'text').execute();
    },
  },
};
