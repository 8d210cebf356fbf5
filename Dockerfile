# The operator's static binary, which `make image` builds outside Docker.
# It needs no CA certificates: it connects to the Docker socket, and to API servers with a configured CA.
FROM scratch
COPY localcluster-operator /localcluster-operator
USER 65532:65532
EXPOSE 8080
# Memory that is used for a moment, as for a copy of the program, goes back to the system. By default glibc keeps it: with ten
# clusters, 190 MiB after they all ended at once, instead of 77.
ENV GLIBC_TUNABLES=glibc.malloc.mmap_threshold=262144:glibc.malloc.trim_threshold=262144:glibc.malloc.arena_max=2
ENTRYPOINT ["/localcluster-operator"]
CMD ["run"]
