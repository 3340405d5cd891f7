/** What a worker says of ways that are closed, in a network of its own where nothing answers as it should. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Cell } from './cell';

/** One NIC with a switch behind it that swallows everything; a network that is prohibited, one that is unreachable, and no way to the rest. */
const network = [
  'ip link set lo up',
  'ip link add v0 type veth peer name v1',
  'ip link set v1 up',
  'ip address add 10.0.0.9/24 dev v0',
  'ip link set v0 up',
  'ip -6 address add fd00:1::9/64 dev v0 nodad',
  'ip neighbour add 10.0.0.4 lladdr 02:00:00:00:00:04 dev v0',
  'ip -6 neighbour add fd00:1::4 lladdr 02:00:00:00:00:04 dev v0',
  'ip route add prohibit 10.2.0.0/16',
  'ip route add unreachable 10.3.0.0/16',
];

const program = `
  const { endpointCell } = require(${JSON.stringify(require.resolve('./endpoint-check'))});
  const { systemNames } = require(${JSON.stringify(require.resolve('./names'))});
  const around = { names: systemNames, skewMs: 0, now: Date.now, signal: new AbortController().signal };
  const look = (endpoint, index) =>
    // Only the two that nobody answers are to time out.
    endpointCell({ check: 'host', endpoint, name: 'host1', caPem: '' }, { ...around, timeoutMs: index < 2 ? 700 : 600_000 });
  Promise.all(process.argv.slice(1).map(look))
    .then((cells) => process.stdout.write(JSON.stringify(cells)));`;

test('each closed way is told apart, with both ends and what to open', async () => {
  const endpoints = ['10.0.0.4:54322', '[fd00:1::4]:54322', '10.0.0.9:54322', '10.2.0.1:54322', '10.3.0.1:54322', '192.168.7.7:54322'];
  const script = `${network.join(' && ')} && exec "$0" -e "$@"`;
  const { stdout } = await promisify(execFile)('unshare', ['--net', 'sh', '-c', script, process.execPath, program, ...endpoints]);
  const cells = JSON.parse(stdout) as Cell[];
  expect(cells.map((cell) => [cell.code, cell.localAddress])).toEqual([
    ['CONNECTION_TIMED_OUT', '10.0.0.9'],
    ['CONNECTION_TIMED_OUT', 'fd00:1::9'],
    ['CONNECTION_REFUSED', '10.0.0.9'],
    ['NO_ROUTE', ''],
    ['NO_ROUTE', ''],
    ['NO_ROUTE', ''],
  ]);
  expect(cells.every((cell) => cell.verdict === 'failed')).toBe(true);
  expect(cells[0]?.advice).toBe(
    'Open TCP 54322 from 10.0.0.9 (this worker) to host1 (10.0.0.4): what is sent there is dropped on the way by a firewall, or the machine is off.',
  );
  expect(cells[1]?.advice).toContain('from fd00:1::9 (this worker) to host1 (fd00:1::4)');
  expect(cells[5]?.advice).toMatch(/^Give this worker a way to host1 \(192\.168\.7\.7\)/);
});
