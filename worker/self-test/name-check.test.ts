import { NamesOnce } from './names';
import type { NameService } from './names';
import { nameCells } from './name-check';

const failure = (code: string) => Object.assign(new Error(code), { code });

/** DNS with one table for each server; a server without a table is silent. */
function dns(servers: Record<string, Record<string, string> | undefined>, hosts: Record<string, string> = {}): NameService {
  const ask = async (server: string, name: string) => {
    const table = servers[server];
    if (!table) throw failure('ETIMEOUT');
    const found = table[name];
    if (found === undefined) throw failure('ENOTFOUND');
    return [found];
  };
  return {
    servers: () => Object.keys(servers),
    ask,
    lookup: async (name) => {
      if (hosts[name] !== undefined) return [hosts[name]];
      for (const server of Object.keys(servers)) {
        try {
          return await ask(server, name);
        } catch (error) {
          if ((error as { code: string }).code === 'ENOTFOUND') throw error;
        }
      }
      throw failure('EAI_AGAIN');
    },
  };
}

describe('the look at names', () => {
  it('passes in one cell that says who answered', async () => {
    const cells = await nameCells(
      ['engine.test', 'host1.test'],
      dns({ '10.0.0.2': { 'engine.test': '10.0.0.5', 'host1.test': '10.0.0.6' } }),
    );
    expect(cells).toHaveLength(1);
    expect(cells[0]).toMatchObject({ verdict: 'passed', code: '', target: '' });
    expect(cells[0]?.detail).toBe('engine.test is 10.0.0.5; host1.test is 10.0.0.6; answered by DNS server 10.0.0.2');
  });

  it('has nothing to say where everything is an address', async () => {
    expect(await nameCells([], dns({}))).toMatchObject([{ verdict: 'passed' }]);
  });

  it('fails for each name that nobody knows, with what each server said', async () => {
    const cells = await nameCells(['engine.test', 'host9.test'], dns({ '10.0.0.2': { 'engine.test': '10.0.0.5' } }));
    expect(cells.map((cell) => [cell.target, cell.verdict, cell.code])).toEqual([
      ['', 'passed', ''],
      ['host9.test', 'failed', 'NAME_NOT_RESOLVED'],
    ]);
    expect(cells[1]?.detail).toContain('10.0.0.2: ENOTFOUND');
    expect(cells[1]?.advice).toBe("Add host9.test to the DNS that 10.0.0.2 serve, or choose other DNS servers in the worker's settings.");
  });

  it('warns of a silent server before the one that answers', async () => {
    const [cell] = await nameCells(['engine.test'], dns({ '10.0.0.1': undefined, '10.0.0.2': { 'engine.test': '10.0.0.5' } }));
    expect(cell).toMatchObject({ verdict: 'warning', code: 'DNS_SILENT' });
    expect(cell?.advice).toContain('Open UDP and TCP 53 from this worker to 10.0.0.1');
  });

  it('asks for port 53 when every server is silent, and for servers when there are none', async () => {
    const [silent] = await nameCells(['engine.test'], dns({ '10.0.0.1': undefined }));
    expect(silent).toMatchObject({ verdict: 'failed', code: 'DNS_SILENT' });
    expect(silent?.advice).toContain('Open UDP and TCP 53');
    const [none] = await nameCells(['engine.test'], dns({}));
    expect(none?.advice).toContain('Give this worker DNS servers');
  });

  it('tells one cause once, however many names it has', async () => {
    const many = Array.from({ length: 200 }, (_, i) => `host${i}.test`);
    const cells = await nameCells(many, dns({ '10.0.0.1': undefined }));
    expect(cells).toHaveLength(1);
    expect(cells[0]?.detail).toContain('host0.test, host1.test, host2.test and 197 more');
  });

  it('does not ask for servers that the hosts file makes superfluous', async () => {
    const [cell] = await nameCells(['engine.test'], dns({ '10.0.0.1': undefined }, { 'engine.test': '10.0.0.5' }));
    expect(cell).toMatchObject({ verdict: 'passed' });
    expect(cell?.detail).toContain('hosts file');
  });
});

describe('names of one self-test', () => {
  it('are looked up once each, two at a time', async () => {
    let running = 0;
    let most = 0;
    const asked: string[] = [];
    const slow: NameService = {
      servers: () => [],
      ask: async () => [],
      lookup: async (name) => {
        asked.push(name);
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running -= 1;
        return [name];
      },
    };
    const names = new NamesOnce(slow);
    await Promise.all(['a', 'b', 'c', 'a', 'd', 'b'].map((name) => names.lookup(name)));
    expect([...asked].sort()).toEqual(['a', 'b', 'c', 'd']);
    expect(most).toBe(2);
  });

  it('are given up when the servers are dead, so that the test ends in time', async () => {
    let asked = 0;
    const dead: NameService = {
      servers: () => [],
      ask: async () => [],
      lookup: () => {
        asked += 1;
        return new Promise(() => undefined);
      },
    };
    const names = new NamesOnce(dead, 10);
    const ends = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => names.lookup(`host${i}`)));
    expect(ends.every((end) => end.status === 'rejected' && (end.reason as { code: string }).code === 'ETIMEOUT')).toBe(true);
    // Each holds a thread that disk reads need.
    expect(asked).toBe(2);
  });
});
