// One node of Elasticsearch 7.0, out of its server's own classes, for the tests of the outside search engine.
//
// The classes come inside a Python wheel (see ../elasticsearch.sh), which has the server but not the modules that an installed Elasticsearch adds:
// no Netty, so HTTP is spoken by the JDK's own server here, and nothing is spoken between nodes. `_clone` came with 7.4: here it is carried out as
// `_split` into twice as many shards, which makes the same copy of hard links, of an index that is closed to writing, and then parts it.
//
//   java -cp … Elasticsearch PORT FOLDER
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.function.Supplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.elasticsearch.action.ActionListener;
import org.elasticsearch.client.IndicesAdminClient;
import org.elasticsearch.cluster.node.DiscoveryNode;
import org.elasticsearch.common.bytes.BytesArray;
import org.elasticsearch.common.bytes.BytesReference;
import org.elasticsearch.common.component.AbstractLifecycleComponent;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.lease.Releasable;
import org.elasticsearch.common.network.NetworkService;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.transport.BoundTransportAddress;
import org.elasticsearch.common.transport.TransportAddress;
import org.elasticsearch.common.util.BigArrays;
import org.elasticsearch.common.util.PageCacheRecycler;
import org.elasticsearch.common.xcontent.NamedXContentRegistry;
import org.elasticsearch.http.*;
import org.elasticsearch.index.IndexNotFoundException;
import org.elasticsearch.indices.breaker.CircuitBreakerService;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.NetworkPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.*;
import org.elasticsearch.threadpool.ThreadPool;
import org.elasticsearch.transport.*;

public class Elasticsearch {
  public static void main(String[] args) throws Exception {
    Settings settings = Settings.builder()
        .put("path.home", args[1]).put("path.data", args[1] + "/data").put("path.logs", args[1] + "/logs")
        .put("cluster.name", "tests").put("node.name", "tests")
        .put("discovery.type", "single-node").put("transport.type", "none").put("http.type", "jdk")
        .put("http.port", args[0]).put("processors", 2).put("action.auto_create_index", false)
        .put("cluster.routing.allocation.disk.threshold_enabled", false).build();
    Node node = new TestNode(settings);
    Http.indices = node.client().admin().indices();
    node.start();
    CountDownLatch forever = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> { try { node.close(); } catch (IOException e) { e.printStackTrace(); } forever.countDown(); }));
    forever.await();
  }

  static class TestNode extends Node {
    TestNode(Settings settings) {
      super(InternalSettingsPreparer.prepareEnvironment(settings, Collections.emptyMap(), null, () -> "tests"),
          List.of(Network.class), false);
    }
  }

  public static class Network extends Plugin implements NetworkPlugin {
    @Override public Map<String, Supplier<Transport>> getTransports(Settings s, ThreadPool t, PageCacheRecycler p, CircuitBreakerService c, NamedWriteableRegistry n, NetworkService net) {
      return Map.of("none", NoTransport::new);
    }
    @Override public Map<String, Supplier<HttpServerTransport>> getHttpTransports(Settings s, ThreadPool t, BigArrays b, PageCacheRecycler p, CircuitBreakerService c, NamedXContentRegistry x, NetworkService net, HttpServerTransport.Dispatcher d) {
      return Map.of("jdk", () -> new Http(Integer.parseInt(s.get("http.port")), t, x, d));
    }
  }

  static BoundTransportAddress bound(int port) {
    TransportAddress address = new TransportAddress(InetAddress.getLoopbackAddress(), port);
    return new BoundTransportAddress(new TransportAddress[] {address}, address);
  }

  static class NoTransport extends AbstractLifecycleComponent implements Transport {
    private final Map<String, RequestHandlerRegistry<?>> handlers = new java.util.concurrent.ConcurrentHashMap<>();
    private final ResponseHandlers responses = new ResponseHandlers();
    @Override public <R extends TransportRequest> void registerRequestHandler(RequestHandlerRegistry<R> r) { handlers.put(r.getAction(), r); }
    @Override @SuppressWarnings({"unchecked", "rawtypes"}) public RequestHandlerRegistry getRequestHandler(String action) { return handlers.get(action); }
    @Override public void addMessageListener(TransportMessageListener l) {}
    @Override public boolean removeMessageListener(TransportMessageListener l) { return false; }
    @Override public BoundTransportAddress boundAddress() { return bound(9300); }
    @Override public Map<String, BoundTransportAddress> profileBoundAddresses() { return Map.of(); }
    @Override public TransportAddress[] addressesFromString(String a, int n) { return new TransportAddress[0]; }
    @Override public List<String> getLocalAddresses() { return List.of(); }
    @Override public Releasable openConnection(DiscoveryNode n, ConnectionProfile p, ActionListener<Connection> l) { throw new UnsupportedOperationException("one node"); }
    @Override public TransportStats getStats() { return new TransportStats(0, 0, 0, 0, 0); }
    @Override public ResponseHandlers getResponseHandlers() { return responses; }
    @Override protected void doStart() {}
    @Override protected void doStop() {}
    @Override protected void doClose() {}
  }

  static class Http extends AbstractLifecycleComponent implements HttpServerTransport {
    static IndicesAdminClient indices;
    private static final Pattern CLONE = Pattern.compile("/([^/]+)/_clone/([^/]+)");
    private final int port;
    private final ThreadPool threads;
    private final NamedXContentRegistry registry;
    private final Dispatcher dispatcher;
    private HttpServer server;

    Http(int port, ThreadPool threads, NamedXContentRegistry registry, Dispatcher dispatcher) {
      this.port = port;
      this.threads = threads;
      this.registry = registry;
      this.dispatcher = dispatcher;
    }

    @Override public BoundTransportAddress boundAddress() { return bound(port); }
    @Override public HttpInfo info() { return new HttpInfo(boundAddress(), 100 << 20); }
    @Override public HttpStats stats() { return new HttpStats(0, 0); }
    @Override protected void doStart() {
      try {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 128);
      } catch (IOException e) { throw new java.io.UncheckedIOException(e); }
      server.createContext("/", this::handle);
      server.setExecutor(Executors.newCachedThreadPool());
      server.start();
    }
    @Override protected void doStop() { server.stop(0); }
    @Override protected void doClose() {}

    private void handle(HttpExchange exchange) throws IOException {
      byte[] body = exchange.getRequestBody().readAllBytes();
      Asked asked = new Asked(exchange, exchange.getRequestURI().toString(), body);
      Matcher clone = CLONE.matcher(exchange.getRequestURI().getPath());
      if (clone.matches()) asked = split(asked, clone.group(1), clone.group(2));
      RestRequest request = RestRequest.request(registry, asked, new Channel(exchange));
      RestChannel channel = new AbstractRestChannel(request, true) {
        @Override public void sendResponse(RestResponse response) {
          try (exchange) {
            byte[] answer = BytesReference.toBytes(response.content());
            exchange.getResponseHeaders().set("Content-Type", response.contentType());
            boolean head = exchange.getRequestMethod().equals("HEAD");
            exchange.sendResponseHeaders(response.status().getStatus(), head || answer.length == 0 ? -1 : answer.length);
            if (!head) exchange.getResponseBody().write(answer);
          } catch (IOException e) { e.printStackTrace(); }
        }
      };
      try (var context = threads.getThreadContext().stashContext()) {
        dispatcher.dispatchRequest(request, channel, threads.getThreadContext());
      } catch (Exception e) { channel.sendResponse(new BytesRestResponse(channel, e)); }
    }

    /** The same as a `_split`. */
    private static Asked split(Asked asked, String from, String to) {
      Settings settings;
      try {
        settings = indices.prepareGetSettings(from).get().getIndexToSettings().get(from);
      } catch (IndexNotFoundException e) {
        settings = Settings.EMPTY;
      }
      int shards = 2 * settings.getAsInt("index.number_of_shards", 1);
      String body = new String(asked.body, StandardCharsets.UTF_8);
      body = body.replaceFirst("\"settings\":\\{", "$0\"index.number_of_shards\":" + shards + ",");
      String uri = asked.uri.replace("/_clone/", "/_split/");
      return new Asked(asked.exchange, uri, body.getBytes(StandardCharsets.UTF_8));
    }
  }

  static class Asked implements HttpRequest {
    final HttpExchange exchange;
    final String uri;
    final byte[] body;

    Asked(HttpExchange exchange, String uri, byte[] body) {
      this.exchange = exchange;
      this.uri = uri;
      this.body = body;
    }

    @Override public RestRequest.Method method() { return RestRequest.Method.valueOf(exchange.getRequestMethod()); }
    @Override public String uri() { return uri; }
    @Override public BytesReference content() { return new BytesArray(body); }
    @Override public Map<String, List<String>> getHeaders() { return exchange.getRequestHeaders(); }
    @Override public List<String> strictCookies() { return List.of(); }
    @Override public HttpVersion protocolVersion() { return HttpVersion.HTTP_1_1; }
    @Override public HttpRequest removeHeader(String name) { return this; }
    @Override public HttpResponse createResponse(RestStatus status, BytesReference content) { throw new UnsupportedOperationException(); }
  }

  static class Channel implements HttpChannel {
    final HttpExchange exchange;
    Channel(HttpExchange exchange) { this.exchange = exchange; }
    @Override public void sendResponse(HttpResponse r, ActionListener<Void> l) { throw new UnsupportedOperationException(); }
    @Override public InetSocketAddress getLocalAddress() { return exchange.getLocalAddress(); }
    @Override public InetSocketAddress getRemoteAddress() { return exchange.getRemoteAddress(); }
    @Override public void close() { exchange.close(); }
    @Override public void addCloseListener(ActionListener<Void> l) {}
    @Override public boolean isOpen() { return true; }
  }
}
