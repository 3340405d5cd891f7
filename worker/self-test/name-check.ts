import type { Cell } from './cell';
import { reasonOf } from './dial';
import type { NameService } from './names';

/** Names that are told one by one when all is well. */
const maxListed = 3;
/** Names for which each server is asked what it has to say. */
const maxAsked = 8;

/**
 * Every name of the targets must resolve. One cell when all do, else one for each that is not known, and one that says which server answered for the
 * others: a name that only some server knows is the usual trouble.
 */
export async function nameCells(wanted: readonly string[], names: NameService): Promise<Cell[]> {
  const servers = names.servers();
  if (wanted.length === 0) return [cellOf('', { verdict: 'passed', detail: 'no target has a name', advice: '', code: '' })];
  const looks = await Promise.all(wanted.map(async (name) => ({ name, ...(await look(name, names)) })));
  const good = looks.filter((one) => one.reason === '');
  const cells: Cell[] = [];
  if (good.length > 0) {
    const [first] = good as [(typeof good)[number]];
    const answered = await whoAnswers(first.name, servers, names);
    const silent = answered.silent.length > 0;
    const listed = good.slice(0, maxListed).map((one) => `${one.name} is ${one.addresses.join(', ')}`);
    const rest = good.length > maxListed ? ` and ${good.length - maxListed} more` : '';
    const by = answered.server === '' ? 'not by a DNS server: the hosts file' : `answered by DNS server ${answered.server}`;
    cells.push(
      cellOf('', {
        verdict: silent ? 'warning' : 'passed',
        detail: `${listed.join('; ')}${rest}; ${by}${silent ? `; silent: ${answered.silent.join(', ')}` : ''}`,
        advice: silent
          ? `Open UDP and TCP 53 from this worker to ${answered.silent.join(', ')}, or take it from the DNS servers in the worker's settings: each look-up waits for it first.`
          : '',
        code: silent ? 'DNS_SILENT' : '',
      }),
    );
  }
  const bad = looks.filter((one) => one.reason !== '');
  const unanswered = bad.filter((one) => isUnanswered(one.reason));
  if (unanswered.length > 0) cells.push(silentCell(unanswered, servers));
  const unknown = bad.filter((one) => !isUnanswered(one.reason));
  const asked = await Promise.all(unknown.slice(0, maxAsked).map(({ name }) => whatServersSay(name, servers, names)));
  unknown.forEach(({ name, reason }, index) => {
    const said = asked[index];
    const detail = `${name} does not resolve (${reason})${said === undefined ? '' : `; ${said}`}`;
    const advice = `Add ${name} to the DNS that ${servers.join(', ')} serve, or choose other DNS servers in the worker's settings.`;
    cells.push(cellOf(name, { verdict: 'failed', detail, advice, code: 'NAME_NOT_RESOLVED' }));
  });
  return cells;
}

/** Names that got no answer at all have one cause, and one cell. */
function silentCell(unanswered: readonly { readonly name: string; readonly reason: string }[], servers: readonly string[]): Cell {
  const listed = unanswered.slice(0, maxListed).map((one) => one.name);
  const rest = unanswered.length > maxListed ? ` and ${unanswered.length - maxListed} more` : '';
  const detail = `no answer for ${listed.join(', ')}${rest} (${unanswered[0]?.reason})`;
  if (servers.length === 0) {
    const advice = 'Give this worker DNS servers in its settings, or use addresses in place of names.';
    return cellOf(listed[0] ?? '', { verdict: 'failed', detail: `${detail}; no DNS server is set`, advice, code: 'NAME_NOT_RESOLVED' });
  }
  const advice = `Open UDP and TCP 53 from this worker to its DNS servers (${servers.join(', ')}), or choose others in its settings.`;
  return cellOf(listed[0] ?? '', { verdict: 'failed', detail, advice, code: 'DNS_SILENT' });
}

async function look(name: string, names: NameService): Promise<{ addresses: readonly string[]; reason: string }> {
  try {
    return { addresses: await names.lookup(name), reason: '' };
  } catch (error) {
    return { addresses: [], reason: reasonOf(error) };
  }
}

/** The first server, in the system's order, that knows the name; and those before it that said nothing at all. */
async function whoAnswers(name: string, servers: readonly string[], names: NameService): Promise<{ server: string; silent: string[] }> {
  const silent: string[] = [];
  for (const server of servers) {
    try {
      await names.ask(server, name);
      return { server, silent };
    } catch (error) {
      if (isSilence(reasonOf(error))) silent.push(server);
    }
  }
  // All silent, and yet it resolves: then nobody needs them.
  return { server: '', silent: [] };
}

async function whatServersSay(name: string, servers: readonly string[], names: NameService): Promise<string> {
  const said = await Promise.all(
    servers.map(async (server) => {
      try {
        await names.ask(server, name);
        return `${server}: knows it now`;
      } catch (error) {
        const answer = reasonOf(error);
        return `${server}: ${isSilence(answer) ? 'no answer' : answer}`;
      }
    }),
  );
  return said.join(', ');
}

/** Of the system's resolver: no server gave any answer. Everything else is an answer. */
function isUnanswered(reason: string): boolean {
  return isSilence(reason) || reason === 'EAI_AGAIN';
}

function isSilence(reason: string): boolean {
  return reason === 'ETIMEOUT' || reason === 'ECONNREFUSED';
}

function cellOf(target: string, rest: Pick<Cell, 'verdict' | 'detail' | 'advice' | 'code'>): Cell {
  return { check: 'dns', target, targetName: '', ...rest };
}
