import { toTidemarkError } from '../../common/errors/common-errors';
import type { CareStore } from '../catalogue/care-store';
import type { ConfigurationKey } from '../configuration/configuration-key';
import { title } from '../identity/certificate-watch';
import type { CertificateWatch } from '../identity/certificate-watch';
import type { Platforms } from '../inventory/platforms';
import type { MoverRegistry } from '../registry/mover-registry';
import type { PluginConnections } from '../registry/plugin-connections';
import type { PluginRegistry } from '../registry/plugin-registry';
import type { Repositories } from '../repositories/repositories';

/** Two nights. */
const longestWithoutCopyMs = 49 * 3_600_000;

interface Check {
  readonly check: string;
  readonly passed: boolean;
  readonly message: string;
  readonly advice: string;
}

/** Looks at everything that the installation needs, and says what to do about what is wrong. */
export class Doctor {
  constructor(
    private readonly certificates: Pick<CertificateWatch, 'list'>,
    private readonly plugins: PluginRegistry,
    private readonly movers: MoverRegistry,
    private readonly connections: PluginConnections,
    private readonly platforms: Platforms,
    private readonly repositories: Repositories,
    private readonly care: Pick<CareStore, 'of'>,
    private readonly key: Pick<ConfigurationKey, 'wasShown'>,
    private readonly now: () => Date,
  ) {}

  async examine(): Promise<{ passed: boolean; checks: Check[] }> {
    const checks = [
      ...(await this.#guard('certificates', () => this.#certificates())),
      ...(await this.#plugins()),
      ...(await this.#movers()),
      ...(await this.#guard('platforms', () => this.#platforms())),
      ...(await this.#guard('repositories', () => this.#repositories())),
      ...(await this.#guard('configuration', () => this.#configuration())),
      ...(await this.#guard('workers', () => this.#workers())),
    ];
    return { passed: checks.every((check) => check.passed), checks };
  }

  /** One line when all is well; else one for each certificate that ends. Hosts may be reachable for workers only. */
  async #certificates(): Promise<Check[]> {
    const all = await this.certificates.list();
    const bad = all.filter((one) => one.state === 'expiring' || one.state === 'expired');
    const unseen = all.filter((one) => one.state === 'unreachable').length;
    const note = unseen === 0 ? '' : ` ${unseen} could not be looked at ("tidemark cert list").`;
    const first = Math.min(...all.flatMap((one) => (one.daysLeft === null ? [] : [one.daysLeft])));
    if (bad.length === 0)
      return [check('certificates', true, `${all.length} certificates; the first one ends in ${first} days.${note}`, '')];
    return bad.map((one) => {
      const left = one.daysLeft === null || one.daysLeft < 0 ? 'it is over' : `${one.daysLeft} days are left`;
      return check(`certificate ${one.name}`, false, `The ${title(one)}: ${left}.`, one.note);
    });
  }

  async #plugins(): Promise<Check[]> {
    const all = await this.plugins.list();
    if (all.length === 0) return [check('plugins', false, 'No plug-in is enrolled.', 'Run "tidemark plugin enrol".')];
    return all.flatMap(({ identity, connected, enabled }) => [
      check(
        `plugin ${identity.id}: connected`,
        connected,
        connected ? 'It keeps its lease.' : 'It is not connected.',
        'Check that it runs.',
      ),
      check(
        `plugin ${identity.id}: enabled`,
        enabled,
        enabled ? 'It is used.' : 'It is not used.',
        `Run "tidemark plugin enable ${identity.id}".`,
      ),
    ]);
  }

  async #movers(): Promise<Check[]> {
    const all = await this.movers.list();
    if (all.length === 0) return [check('movers', false, 'No mover is enrolled.', 'Run "tidemark mover enrol".')];
    return all.map(({ identity, connected }) =>
      check(
        `mover ${identity.id}: connected`,
        connected,
        connected ? 'It keeps its lease.' : 'It is not connected.',
        'Check that it runs.',
      ),
    );
  }

  async #platforms(): Promise<Check[]> {
    return (await this.platforms.list()).map(({ row, platform }) => {
      const fault = platform ? platform.unavailable : undefined;
      const message = platform ? (fault?.message ?? 'The engine answers.') : 'Its plug-in cannot be asked.';
      return check(`platform ${row.name}`, platform !== undefined && !fault, message, `Run "tidemark platform test ${row.name}".`);
    });
  }

  async #repositories(): Promise<Check[]> {
    const all = await this.repositories.list();
    if (all.length === 0) return [check('repositories', false, 'There is no repository.', 'Run "tidemark repository add".')];
    return all.map(({ row, unavailable }) =>
      check(`repository ${row.name}`, !unavailable, unavailable?.message ?? 'It can be used.', 'Check its mover and its location.'),
    );
  }

  /** What a new server could be made from when this one is lost. */
  async #configuration(): Promise<Check[]> {
    const { wasShown } = this.key;
    const checks = [
      check(
        'configuration: recovery key',
        wasShown,
        wasShown
          ? 'It was shown to an administrator.'
          : 'Nobody has the recovery key of the configuration: its copies could not be opened.',
        'Run "tidemark config key show-once" and keep what it prints away from this server.',
      ),
    ];
    for (const { row } of await this.repositories.list()) {
      const { copy, collect, verify } = await this.care.of(row.id);
      const old = copy.doneAt === null || this.now().getTime() - Date.parse(copy.doneAt) > longestWithoutCopyMs;
      const last = copy.doneAt === null ? 'There is none yet' : `The last one is of ${copy.doneAt}`;
      const why = copy.failure ? `; the last try failed: ${copy.failure.message}` : '.';
      checks.push(
        check(
          `configuration: copy in ${row.name}`,
          !old && !copy.failure,
          `${last}${why}`,
          `Run "tidemark config backup --repository ${row.name}".`,
        ),
      );
      for (const [name, { failure }] of [
        ['collection', collect],
        ['verification', verify],
      ] as const) {
        if (failure)
          checks.push(
            check(
              `repository ${row.name}: ${name}`,
              false,
              failure.message,
              `"tidemark session list --kind ${name === 'collection' ? 'collect' : 'verify'}" shows more.`,
            ),
          );
      }
    }
    return checks;
  }

  async #workers(): Promise<Check[]> {
    const checks: Check[] = [];
    for (const client of await this.connections.usable()) {
      const { workers } = await client.workers.call('ListWorkers', {}, { deadlineMs: 5_000 });
      const connected = workers.filter((worker) => worker.state === 'connected').length;
      checks.push(
        check(`plugin ${client.id}: workers`, connected > 0, `${connected} workers are connected.`, 'Run "tidemark worker enrol-token".'),
      );
    }
    return checks;
  }

  async #guard(what: string, look: () => Promise<Check[]>): Promise<Check[]> {
    try {
      return await look();
    } catch (thrown) {
      // A part that cannot be asked is a finding, not the end of the examination.
      return [check(what, false, toTidemarkError(thrown, what).message, 'Mend what the message names, then try again.')];
    }
  }
}

function check(name: string, passed: boolean, message: string, advice: string): Check {
  return { check: name, passed, message, advice: passed ? '' : advice };
}
