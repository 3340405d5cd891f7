import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import type { WorkerEngine } from './engine-port';
import type { ProbePath } from './host-port';
import type { WorkerVmLimits } from './timing';

type Ports = Pick<WorkerVmLimits, 'imageioPort' | 'imageioProxyPort'>;

/**
 * What a worker must reach: the engine, each host that is up (of the cluster, or all), the engine's image proxy for information, and every
 * mover; the worker adds a throughput sample by itself.
 */
export async function selfTestTargets(
  engine: WorkerEngine,
  clusterId: string | undefined,
  movers: readonly ProbePath[],
  ports: Ports,
  signal?: AbortSignal,
): Promise<SelfTestTarget[]> {
  const { hostname, port } = new URL(engine.url);
  const hosts = (await engine.hosts.list({ signal })).filter(
    (host) => host.status === 'up' && (clusterId === undefined || host.clusterId === clusterId),
  );
  return [
    { check: 'SELF_TEST_CHECK_ENGINE', endpoint: `${hostname}:${port === '' ? 443 : port}`, name: 'engine', caPem: engine.webCaPem },
    ...hosts.map((host): SelfTestTarget => {
      return {
        check: 'SELF_TEST_CHECK_HOST',
        endpoint: endpointOf(host.address, ports.imageioPort),
        name: host.name,
        caPem: engine.imageioCaPem,
      };
    }),
    {
      check: 'SELF_TEST_CHECK_PROXY',
      endpoint: `${hostname}:${ports.imageioProxyPort}`,
      name: 'image proxy of the engine',
      caPem: engine.imageioCaPem,
    },
    ...moverTargets(movers),
  ];
}

export function moverTargets(movers: readonly ProbePath[]): SelfTestTarget[] {
  return movers.flatMap(({ name, dataPath }) => {
    if (!dataPath) return [];
    return [{ check: 'SELF_TEST_CHECK_MOVER' as const, endpoint: dataPath.endpoints[0] ?? '', name, caPem: '', dataPath }];
  });
}

/** The failed cells in one sentence each; empty when the test passed. */
export function problemsOf(test: SelfTest__Output): string {
  return test.cells
    .filter((cell) => cell.verdict === 'SELF_TEST_VERDICT_FAILED')
    .map((cell) => [`${cell.targetName || cell.target || nameOf(cell.check)}: ${cell.detail || cell.code}.`, cell.advice].join(' ').trim())
    .join(' ')
    .slice(0, 2000);
}

function nameOf(check: string): string {
  return check.replace('SELF_TEST_CHECK_', '').toLowerCase();
}

function endpointOf(address: string, port: number): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}
